{{- define "vectorops.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* For what has no namespace: two releases of one name in two namespaces stay apart. */}}
{{- define "vectorops.clusterName" -}}
{{ include "vectorops.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "vectorops.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "vectorops.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "vectorops.selector" -}}
app.kubernetes.io/name: vectorops
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vectorops.labels" -}}
{{ include "vectorops.selector" . }}
app.kubernetes.io/part-of: vectorops
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "vectorops.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}{{ end }}
{{- end }}

{{/* What the operator and the Job before an uninstall have in common: both ask the same API with the same rights. */}}
{{- define "vectorops.podCommon" -}}
serviceAccountName: {{ include "vectorops.serviceAccount" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "vectorops.containerCommon" -}}
image: {{ include "vectorops.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: ["vectorops"]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml .Values.resources | nindent 2 }}
env:
- {name: VECTOROPS_WATCH_NAMESPACES, value: {{ join "," .Values.watch.namespaces | quote }}}
- {name: VECTOROPS_HTTP_PORT, value: {{ .Values.httpPort | quote }}}
- {name: VECTOROPS_LOG_FORMAT, value: {{ .Values.operator.logFormat | quote }}}
- {name: VECTOROPS_LOG_LEVEL, value: {{ .Values.operator.logLevel | quote }}}
- {name: VECTOROPS_STATUS_PERIOD_SECONDS, value: {{ .Values.operator.statusPeriodSeconds | quote }}}
- {name: VECTOROPS_SECRET_LABELS, value: {{ .Values.operator.secretLabels | quote }}}
{{- with .Values.operator.serviceAddresses }}
- {name: VECTOROPS_SERVICE_ADDRESSES, value: {{ . | quote }}}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
