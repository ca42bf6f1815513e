{{/* What follows from the values: "true", or nothing. */}}

{{- define "govmiddleware.hasSqlite" -}}
{{- if not .Values.secrets.settings.journal_url }}true{{ end -}}
{{- end -}}

{{/* Whether the pod's own disk keeps books, so that there can be one pod only. */}}
{{- define "govmiddleware.keepsData" -}}
{{- if or (eq .Values.store.kind "embedded") (include "govmiddleware.hasSqlite" .) }}true{{ end -}}
{{- end -}}

{{- define "govmiddleware.mostReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.replicaCount }}{{ end -}}
{{- end -}}

{{/* The delay before draining, the draining, and what it takes to settle what was cut. */}}
{{- define "govmiddleware.graceSeconds" -}}
{{- add .Values.drain.delaySeconds .Values.drain.seconds 20 -}}
{{- end -}}

{{/* What clients reach us by, for links in refusals. */}}
{{- define "govmiddleware.publicUrl" -}}
{{- if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{ ternary "https" "http" (not (empty .Values.ingress.tls)) }}://{{ first .Values.ingress.hosts }}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
https://{{ first .Values.httpRoute.hostnames }}
{{- else -}}
http://{{ include "govmiddleware.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end -}}
{{- end -}}

{{- define "govmiddleware.litellmUrl" -}}
http://127.0.0.1:{{ .Values.litellm.port }}
{{- end -}}

{{/* The settings, and what the chart knows of them, as YAML. */}}
{{- define "govmiddleware.config" -}}
{{- $known := dict "public_url" (include "govmiddleware.publicUrl" .) -}}
{{- if and .Values.litellm.enabled (not .Values.config.upstreams) -}}
{{- $_ := set $known "upstream" (include "govmiddleware.litellmUrl" .) -}}
{{- end -}}
{{- merge (deepCopy .Values.config) $known | toYaml -}}
{{- end -}}

{{- define "govmiddleware.storeUrl" -}}
{{- if eq .Values.store.kind "valkey" -}}
redis://{{ include "govmiddleware.fullname" . }}-valkey:6379/0
{{- else if eq .Values.store.kind "embedded" -}}
embedded
{{- else -}}
{{- .Values.store.url -}}
{{- end -}}
{{- end -}}
