{{- define "vectorops.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := "" -}}
{{- if .Values.fullnameOverride }}{{ $full = .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ $full = .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ $full = printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) }}
{{- fail (printf "%s cannot be the name of a Service: set fullnameOverride to one that begins with a letter and has letters, digits and dashes only" $full) }}
{{- end }}{{ $full }}
{{- end }}

{{/* For what has no namespace: two releases of one name in two namespaces stay apart. */}}
{{- define "vectorops.clusterName" -}}
{{ include "vectorops.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{/* "true" where objects of the cluster may be made: in a namespaced profile whoever installs has no right to them. */}}
{{- define "vectorops.clusterObjects" -}}
{{ if eq .Values.scope "Cluster" }}true{{ end }}
{{- end }}

{{/* The namespaces that are served, separated by commas; nothing: all. */}}
{{- define "vectorops.namespaces" -}}
{{- if .Values.watch.namespaces }}{{ join "," .Values.watch.namespaces }}
{{- else if not (include "vectorops.clusterObjects" .) }}{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "vectorops.serviceAccount" -}}
{{ default (include "vectorops.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{/* Which pods: those of the operator, not those of the Job before an uninstall. */}}
{{- define "vectorops.selector" -}}
{{ include "vectorops.instance" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "vectorops.instance" -}}
app.kubernetes.io/name: vectorops
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vectorops.labels" -}}
{{ include "vectorops.labelsOf" (dict "root" . "component" "operator") }}
{{- end }}

{{/* Of `component`, one of operator, metrics, release, access, users, approval. */}}
{{- define "vectorops.labelsOf" -}}
{{ include "vectorops.instance" .root }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: vectorops
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of `component`, and annotations: `own` (of this object) win over those that are common to all. */}}
{{- define "vectorops.meta" -}}
labels: {{- include "vectorops.labelsOf" . | nindent 2 }}
{{- with merge (dict) (default (dict) .own) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vectorops.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}{{ end }}
{{- end }}

{{/* What the operator and the Job before an uninstall have in common: both ask the same API with the same rights. */}}
{{- define "vectorops.podCommon" -}}
serviceAccountName: {{ include "vectorops.serviceAccount" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.tolerations (not (kindIs "invalid" .Values.lostNodeSeconds)) }}
tolerations:
{{- if not (kindIs "invalid" .Values.lostNodeSeconds) }}
{{- range list "not-ready" "unreachable" }}
- {key: node.kubernetes.io/{{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int $.Values.lostNodeSeconds }}}
{{- end }}
{{- end }}
{{- with .Values.tolerations }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
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
- {name: VECTOROPS_WATCH_NAMESPACES, value: {{ include "vectorops.namespaces" . | quote }}}
- {name: VECTOROPS_OWN_NAMESPACE, value: {{ .Release.Namespace | quote }}}
- {name: VECTOROPS_HTTP_PORT, value: {{ .Values.httpPort | quote }}}
- {name: VECTOROPS_LOG_FORMAT, value: {{ .Values.operator.logFormat | quote }}}
- {name: VECTOROPS_LOG_LEVEL, value: {{ .Values.operator.logLevel | quote }}}
- {name: VECTOROPS_STATUS_PERIOD_SECONDS, value: {{ .Values.operator.statusPeriodSeconds | quote }}}
- {name: VECTOROPS_PROGRESS_DEADLINE_SECONDS, value: {{ .Values.operator.progressDeadlineSeconds | quote }}}
{{- if .Values.leaderElection }}
- {name: VECTOROPS_LEADER_ELECTION, value: "true"}
- {name: VECTOROPS_LEASE_NAMESPACE, value: {{ .Release.Namespace | quote }}}
- {name: VECTOROPS_LEASE_NAME, value: {{ include "vectorops.fullname" . | quote }}}
{{- end }}
- {name: VECTOROPS_SECRET_LABELS, value: {{ .Values.operator.secretLabels | quote }}}
{{- with .Values.operator.allowedHosts }}
- {name: VECTOROPS_ALLOWED_HOSTS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.operator.serviceAddresses }}
{{- if and (hasPrefix "{" .) (hasKey (fromJson .) "Error") }}
{{- fail "operator.serviceAddresses is no JSON: write {\"namespace/service:port\": [\"host:port\"]}, or @FILE" }}
{{- end }}
- {name: VECTOROPS_SERVICE_ADDRESSES, value: {{ . | quote }}}
{{- end }}
{{- include "vectorops.onceEach" (dict "what" "operator.extraEnv" "items" .Values.operator.extraEnv) }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Fails where two of `items` have one name: of two variables or volumes of one name nobody knows which one counts. */}}
{{- define "vectorops.onceEach" -}}
{{- $names := list }}
{{- range .items }}{{ $names = append $names .name }}{{ end }}
{{- if ne (len $names) (len (uniq $names)) }}
{{- fail (printf "%s names %s more than once: name each once" .what (join ", " ($names | sortAlpha | uniq))) }}
{{- end }}
{{- end }}

{{/* Fails where a mount names no volume. */}}
{{- define "vectorops.mounted" -}}
{{- include "vectorops.onceEach" (dict "what" "extraVolumes" "items" .Values.extraVolumes) }}
{{- $volumes := list }}
{{- range .Values.extraVolumes }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "extraVolumeMounts names the volume %s, which is not among extraVolumes" .name) }}
{{- end }}
{{- end }}
{{- end }}
