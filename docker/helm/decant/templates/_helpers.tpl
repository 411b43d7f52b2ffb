{{- define "decant.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "decant.selector" -}}
app.kubernetes.io/name: decant
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "decant.labels" -}}
{{ include "decant.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "decant.keysSecret" -}}
{{- if .Values.keys.existingSecret }}{{ .Values.keys.existingSecret }}
{{- else if .Values.keys.lines }}{{ include "decant.name" . }}-keys{{ end }}
{{- end }}

{{- define "decant.drainSeconds" -}}
{{- $drain := 30 }}
{{- with .Values.settings }}{{ with .server }}{{ if hasKey . "drain_timeout_s" }}{{ $drain = .drain_timeout_s }}{{ end }}{{ end }}{{ end }}
{{- $drain | float64 | ceil | int }}
{{- end }}

{{- define "decant.claim" -}}
{{- .Values.cache.existingClaim | default (printf "%s-cache" (include "decant.name" .)) }}
{{- end }}

{{- define "decant.claimSpec" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.cache.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests: {storage: {{ .Values.cache.size }}}
{{- end }}

{{- define "decant.refusals" -}}
{{- $several := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled }}
{{- if and (eq .Values.cache.type "claim") $several }}
{{- fail "cache.type: a claim is one pod's; for several replicas use ephemeral or emptyDir" }}
{{- end }}
{{- if and .Values.cache.existingClaim (ne .Values.cache.type "claim") }}
{{- fail "cache.existingClaim: needs cache.type: claim" }}
{{- end }}
{{- if and .Values.keys.existingSecret .Values.keys.lines }}
{{- fail "keys: give lines or existingSecret, not both" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas: is over maxReplicas" }}
{{- end }}
{{- end }}
