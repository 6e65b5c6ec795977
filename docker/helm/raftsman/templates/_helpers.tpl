{{- define "raftsman.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "raftsman.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "raftsman.labels" -}}
{{ include "raftsman.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "raftsman.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "raftsman.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What follows a pod's name in the names that nodes and clients reach it by. */}}
{{- define "raftsman.domain" -}}
{{- printf "%s-nodes.%s.svc.%s" (include "raftsman.name" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{/* 0@name-0.domain:9093,1@… */}}
{{- define "raftsman.voters" -}}
{{- $voters := list -}}
{{- range $ordinal := until (int .Values.replicas) -}}
{{- $voters = append $voters (printf "%d@%s-%d.%s:%d" $ordinal (include "raftsman.name" $) $ordinal (include "raftsman.domain" $) (int $.Values.ports.controllers)) -}}
{{- end -}}
{{- join "," $voters -}}
{{- end -}}
