{{/* Refuses what cannot work. What a single value may be says values.schema.json. */}}
{{- define "govmiddleware.validate" -}}
{{- $config := .Values.config -}}
{{- $settings := .Values.secrets.settings -}}
{{- $replicas := int (include "govmiddleware.mostReplicas" .) -}}

{{- if gt $replicas 1 -}}
{{- if eq .Values.store.kind "embedded" -}}
{{- fail (printf "%d replicas need one store for all: store.kind is embedded, which is one pod's own; set it to external, or to valkey for a trial" $replicas) -}}
{{- end -}}
{{- if include "govmiddleware.hasSqlite" . -}}
{{- fail (printf "%d replicas need one journal for all: SQLite is one pod's own; set secrets.settings.journal_url to a Secret with a postgresql:// URL" $replicas) -}}
{{- end -}}
{{- end -}}

{{- if and $settings.journal_url (not $settings.audit_key) -}}
{{- fail "secrets.settings.audit_key is missing: beside a journal on PostgreSQL it must be the same in every pod" -}}
{{- end -}}
{{- if ne (not $settings.webhook_url) (not $settings.webhook_secret) -}}
{{- fail "secrets.settings.webhook_url and secrets.settings.webhook_secret need each other" -}}
{{- end -}}

{{- if eq .Values.store.kind "external" -}}
{{- if eq (not .Values.store.url) (not $settings.redis_url) -}}
{{- fail "store.kind is external: set either store.url or secrets.settings.redis_url" -}}
{{- end -}}
{{- if regexMatch "://[^/@]*:[^/@$][^/@]*@" .Values.store.url -}}
{{- fail "store.url has a password in it: write $(REDIS_PASSWORD) there, and REDIS_PASSWORD into secrets.env" -}}
{{- end -}}
{{- else if or .Values.store.url $settings.redis_url -}}
{{- fail (printf "store.kind is %s: store.url and secrets.settings.redis_url are for external" .Values.store.kind) -}}
{{- end -}}

{{- if .Values.litellm.enabled -}}
{{- if $config.upstream -}}
{{- fail "litellm.enabled: LiteLLM in the pod is the upstream; leave out config.upstream" -}}
{{- end -}}
{{- $url := include "govmiddleware.litellmUrl" . -}}
{{- $urls := list -}}
{{- range $config.upstreams }}{{ $urls = append $urls .url }}{{ end -}}
{{- if and $urls (not (has $url $urls)) -}}
{{- fail (printf "litellm.enabled: none of config.upstreams has the url %s, which is LiteLLM in the pod" $url) -}}
{{- end -}}
{{- if not .Values.litellm.image.tag -}}
{{- fail "litellm.image.tag is missing: which version of LiteLLM shall run?" -}}
{{- end -}}
{{- else if eq (not $config.upstream) (not $config.upstreams) -}}
{{- fail "set either config.upstream or config.upstreams: where are requests forwarded to?" -}}
{{- end -}}
{{- if and $config.upstreams $settings.upstream_api_key -}}
{{- fail "secrets.settings.upstream_api_key is for config.upstream; config.upstreams have an api_key_env each" -}}
{{- end -}}

{{- $variables := keys .Values.secrets.env -}}
{{- range .Values.extraEnv }}{{ $variables = append $variables .name }}{{ end -}}
{{- range $config.upstreams -}}
{{- if and .api_key_env (not (has .api_key_env $variables)) -}}
{{- fail (printf "upstream %s has api_key_env %s: put it into secrets.env" .name .api_key_env) -}}
{{- end -}}
{{- end -}}

{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: which Gateway shall it be attached to?" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
