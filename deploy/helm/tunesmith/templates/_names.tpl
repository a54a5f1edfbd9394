{{- define "tunesmith.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What selects pods: a list of the root and the component. */ -}}
{{- define "tunesmith.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "tunesmith.labels" -}}
{{- $root := index . 0 -}}
{{ include "tunesmith.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "tunesmith.metadata" -}}
{{- $root := index . 0 -}}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "tunesmith.labels" . | nindent 2 }}
{{- end -}}

{{- /* An image: a list of the root and the target. */ -}}
{{- define "tunesmith.image" -}}
{{- $root := index . 0 -}}
{{- $tag := $root.Values.image.tag | default $root.Chart.AppVersion -}}
image: {{ printf "%s:%s-%s" $root.Values.image.repository $tag (index . 1) }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- end -}}

{{- define "tunesmith.rayAddress" -}}
{{- if .Values.ray.enabled -}}
http://{{ include "tunesmith.name" . }}-head-svc.{{ .Release.Namespace }}.svc:8265
{{- else -}}
{{- required "ray.address is needed where ray.enabled is false" .Values.ray.address -}}
{{- end -}}
{{- end -}}
