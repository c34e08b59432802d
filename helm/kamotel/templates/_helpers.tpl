{{/* Name of all objects. */}}
{{- define "kamotel.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What agents are selected by: never changed, a DaemonSet's selector cannot be. */}}
{{- define "kamotel.selector" -}}
app.kubernetes.io/name: kamotel
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{/* Labels of all objects. */}}
{{- define "kamotel.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: kamotel
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "kamotel.image" -}}
{{- $repository := required "image.repository is missing: the name under which you pushed the image of `make image`, such as registry.example.com/kamotel" .Values.image.repository }}
{{- if .Values.image.digest }}{{ printf "%s@%s" $repository .Values.image.digest }}
{{- else }}{{ printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "kamotel.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "kamotel.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "kamotel.scheme" -}}
{{ ternary "https" "http" (ne .Values.tls.secret "") }}
{{- end }}

{{/* Not empty when `helm test` has a drill to run. */}}
{{- define "kamotel.drills" -}}
{{- if and .Values.drill.enabled (or (not .Values.basicAuth.secret) .Values.drill.credentialsSecret) (not .Values.tls.clientCaSecret) }}yes{{ end }}
{{- end }}

{{/* Where an agent's metrics come from, as attributes of the resource. */}}
{{- define "kamotel.resourceAttributes" -}}
k8s.node.name=$(NODE_NAME)
{{- range $key, $value := .Values.otlp.resourceAttributes }},{{ $key }}={{ $value | urlquery | replace "+" "%20" }}{{ end }}
{{- end }}

{{/* Values that contradict each other: each would be silence instead of an alert. */}}
{{- define "kamotel.check" -}}
{{- $v := .Values }}
{{- if and $v.tls.clientCaSecret (not $v.tls.secret) }}{{ fail "tls.clientCaSecret needs tls.secret: certificates of clients are asked for over HTTPS only" }}{{ end }}
{{- if and $v.monitor.kind $v.basicAuth.secret (not $v.monitor.basicAuth) }}{{ fail "basicAuth.secret: Prometheus would be refused; give monitor.basicAuth the Secret with its name and password" }}{{ end }}
{{- if and $v.monitor.kind $v.tls.secret (not $v.monitor.tlsConfig) }}{{ fail "tls.secret: Prometheus would not trust the agents; give monitor.tlsConfig a ca and a serverName" }}{{ end }}
{{- if and $v.monitor.kind $v.tls.clientCaSecret (not (and (hasKey $v.monitor.tlsConfig "cert") (hasKey $v.monitor.tlsConfig "keySecret"))) }}{{ fail "tls.clientCaSecret: Prometheus would be refused; give monitor.tlsConfig a cert and a keySecret" }}{{ end }}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.from) }}{{ fail "networkPolicy.from: an empty list lets everybody in; name who may ask the agents, or set networkPolicy.enabled=false" }}{{ end }}
{{- range $v.extraEnv }}
{{- if or (hasPrefix "KAMOTEL_" .name) (has .name (list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_PROTOCOL" "OTEL_EXPORTER_OTLP_HEADERS" "OTEL_EXPORTER_OTLP_CERTIFICATE" "OTEL_METRIC_EXPORT_INTERVAL" "OTEL_RESOURCE_ATTRIBUTES" "NODE_NAME")) }}{{ fail (printf "extraEnv: %s has a value of its own (%s)" .name (ternary "agent, tls, basicAuth" "otlp.endpoint and others of otlp" (hasPrefix "KAMOTEL_" .name))) }}{{ end }}
{{- end }}
{{- end }}
