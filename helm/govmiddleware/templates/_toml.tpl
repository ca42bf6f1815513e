{{/* Settings as TOML: first what is one line, then the arrays of tables. Helm's toToml writes 5000000 as 5e+06. */}}
{{- define "govmiddleware.toml" -}}
{{- range $key, $value := . -}}
{{- if not (include "govmiddleware.isTables" $value) }}
{{ $key }} = {{ include "govmiddleware.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $tables := . -}}
{{- if include "govmiddleware.isTables" $tables -}}
{{- range $tables }}

[[{{ $key }}]]
{{- range $name, $value := . }}
{{ $name }} = {{ include "govmiddleware.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "govmiddleware.isTables" -}}
{{- if kindIs "slice" . }}{{ if . }}{{ if kindIs "map" (first .) }}true{{ end }}{{ end }}{{ end -}}
{{- end -}}

{{/* What JSON writes of a scalar is TOML, too. */}}
{{- define "govmiddleware.tomlValue" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s = %s" (toRawJson $key) (include "govmiddleware.tomlValue" $value)) -}}
{{- end -}}
{ {{- join ", " $pairs -}} }
{{- else if kindIs "slice" . -}}
{{- $values := list -}}
{{- range . -}}{{- $values = append $values (include "govmiddleware.tomlValue" .) -}}{{- end -}}
[{{ join ", " $values }}]
{{- else -}}
{{- toRawJson . -}}
{{- end -}}
{{- end -}}
