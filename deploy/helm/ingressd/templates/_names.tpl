{{- define "ingressd.name" -}}
{{- if contains "ingressd" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-ingressd" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ingressd.selector" -}}
app.kubernetes.io/name: ingressd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ingressd.metadata" -}}
name: {{ .name }}
{{- if .namespaced }}
namespace: {{ .namespace | default .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "ingressd.selector" .root | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "ingressd.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}
