{{/* Variables from Secrets, of a map NAME: {name, key}. */}}
{{- define "govmiddleware.secretEnv" -}}
{{- range $name, $secret := . }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $secret.name | quote }}, key: {{ $secret.key | quote }}}
{{- end -}}
{{- end -}}

{{/* Kubernetes expands $(NAME) by the variables before it. */}}
{{- define "govmiddleware.env" -}}
{{- include "govmiddleware.secretEnv" .Values.secrets.env }}
{{- range $setting, $secret := .Values.secrets.settings }}
{{- include "govmiddleware.secretEnv" (dict (printf "GOV_%s" (upper $setting)) $secret) }}
{{- end }}
{{- if not .Values.secrets.settings.redis_url }}
- name: GOV_REDIS_URL
  value: {{ include "govmiddleware.storeUrl" . | quote }}
{{- end }}
- name: GOV_CONFIG
  value: /etc/govmiddleware/govmiddleware.toml
- name: GOV_DATA_DIR
  value: /var/lib/govmiddleware
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "govmiddleware.container" -}}
name: govmiddleware
image: {{ include "govmiddleware.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - serve
  - {{ printf "--host=%s" .Values.host | quote }}
  - --port=8080
  - --workers={{ .Values.workers }}
  - --drain-delay-seconds={{ .Values.drain.delaySeconds }}
  - --drain-seconds={{ .Values.drain.seconds }}
env: {{- include "govmiddleware.env" . | trim | nindent 2 }}
ports:
  - {name: http, containerPort: 8080}
startupProbe:
  httpGet: {path: "{{ include "govmiddleware.controlPrefix" . }}/healthz", port: http}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: "{{ include "govmiddleware.controlPrefix" . }}/healthz", port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: "{{ include "govmiddleware.controlPrefix" . }}/readyz", port: http}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/govmiddleware, readOnly: true}
  - {name: data, mountPath: /var/lib/govmiddleware}
  - {name: tmp, mountPath: /tmp}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end -}}

{{/* On loopback, where the kubelet's own probes do not reach. */}}
{{- define "govmiddleware.litellm" -}}
{{- with .Values.litellm -}}
name: litellm
image: "{{ .image.repository }}:{{ .image.tag }}"
restartPolicy: Always
args: [--config, /etc/litellm/config.yaml, --host, 127.0.0.1, --port, {{ .port | quote }}]
env:
  - {name: LITELLM_MODE, value: PRODUCTION}
  {{- with include "govmiddleware.secretEnv" .env | trim }}{{ . | nindent 2 }}{{ end }}
  {{- with .extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
startupProbe:
  exec: &alive
    command:
      - python3
      - -c
      - import urllib.request as r; r.urlopen("http://127.0.0.1:{{ .port }}/health/liveliness", timeout=5)
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: {{ div .startSeconds 5 }}
livenessProbe:
  exec: *alive
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 4
resources: {{- toYaml .resources | nindent 2 }}
securityContext: {{- toYaml .securityContext | nindent 2 }}
volumeMounts:
  - {name: litellm, mountPath: /etc/litellm, readOnly: true}
  - {name: tmp, mountPath: /tmp, subPath: litellm}
{{- end -}}
{{- end -}}
