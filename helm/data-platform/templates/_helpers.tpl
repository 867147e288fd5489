{{/* The name of objects: the release's, with the chart's unless it is part of it already. */}}
{{- define "data-platform.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "data-platform.operatorName" -}}
{{ include "data-platform.fullname" . }}-operator
{{- end }}

{{/* Name of an object of the whole cluster: releases of the same name in two namespaces do not meet. */}}
{{- define "data-platform.clusterName" -}}
{{ .Release.Namespace }}-{{ include "data-platform.fullname" . }}
{{- end }}

{{/* Labels by which the operator's pods are found. They never change, since a Deployment's selector cannot. */}}
{{- define "data-platform.operatorSelector" -}}
app.kubernetes.io/name: data-platform-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of the pods of every job, whoever made it. */}}
{{- define "data-platform.runnerSelector" -}}
app.kubernetes.io/name: data-platform-runner
app.kubernetes.io/managed-by: data-platform
{{- end }}

{{/* Labels of an object: (list $ "name of its part" further labels…). Of two that say the same the first one wins, and a
key comes once, whatever users repeat. */}}
{{- define "data-platform.labelsOf" -}}
{{- $context := first . }}
{{- $labels := dict
  "app.kubernetes.io/name" (index . 1)
  "app.kubernetes.io/instance" $context.Release.Name
  "app.kubernetes.io/version" $context.Chart.AppVersion
  "app.kubernetes.io/part-of" "data-platform"
  "app.kubernetes.io/managed-by" $context.Release.Service
  "helm.sh/chart" (printf "%s-%s" $context.Chart.Name ($context.Chart.Version | replace "+" "_"))
}}
{{- range slice . 2 }}{{ $labels = merge $labels . }}{{ end }}
{{- toYaml (merge $labels $context.Values.commonLabels) }}
{{- end }}

{{- define "data-platform.labels" -}}
{{ include "data-platform.labelsOf" (list . "data-platform-operator") }}
{{- end }}

{{/* Reference of an image: (dict "image" .Values.image "context" $). */}}
{{- define "data-platform.image" -}}
{{- $registry := .context.Values.global.imageRegistry | default .image.registry }}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .context.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* "true" where jobs of all namespaces are run. */}}
{{- define "data-platform.watchesAll" -}}
{{- if has "*" .Values.watchNamespaces }}true{{ end }}
{{- end }}

{{/* The watched namespaces as a JSON list; the release's own where all are watched. */}}
{{- define "data-platform.namespaces" -}}
{{- $own := list .Release.Namespace }}
{{- if include "data-platform.watchesAll" . }}
{{- toJson $own }}
{{- else }}
{{- .Values.watchNamespaces | default $own | uniq | toJson }}
{{- end }}
{{- end }}

{{- define "data-platform.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "data-platform.operatorName" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* "true" where the chart makes ServiceAccounts for jobs. For all namespaces, it cannot. */}}
{{- define "data-platform.makesRunnerAccounts" -}}
{{- if and .Values.runner.serviceAccount.create (not (include "data-platform.watchesAll" .)) }}true{{ end }}
{{- end }}

{{/* What pods of jobs refer to has a name that no release is part of: a release of another name takes the jobs over as they
are, and two releases that watch one namespace are noticed by Helm. */}}
{{- define "data-platform.runnerServiceAccountName" -}}
{{- if include "data-platform.makesRunnerAccounts" . }}
{{- .Values.runner.serviceAccount.name | default "data-platform-runner" }}
{{- else }}
{{- .Values.runner.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* "true" where the chart makes claims. For all namespaces it cannot, and URLs need none. */}}
{{- define "data-platform.makesClaims" -}}
{{- $storage := .Values.storage }}
{{- if and $storage.create.enabled (not $storage.outputs) (not $storage.checkpoints) (not (include "data-platform.watchesAll" .)) }}true{{ end }}
{{- end }}

{{/* Name of the claim of each namespace, or nothing. */}}
{{- define "data-platform.claimName" -}}
{{- if .Values.storage.claimName }}
{{- .Values.storage.claimName }}
{{- else if include "data-platform.makesClaims" . }}
{{- "data-platform" }}
{{- end }}
{{- end }}

{{/* What a monitor says beside its selector, so that names of jobs and namespaces are those of the figures:
(dict "monitor" .Values.metrics.… "context" $). */}}
{{- define "data-platform.endpoint" -}}
{{- $authentication := .context.Values.pages.authentication }}
{{- with .monitor -}}
- port: http
  path: /metrics
  # Figures of a job carry its namespace and name; they are not to be renamed to exported_namespace and exported_job.
  honorLabels: true
  interval: {{ .interval }}
  scrapeTimeout: {{ .scrapeTimeout }}
  {{- if $authentication.secretName }}
  # Prometheus reads the Secret beside the monitor.
  authorization: {type: Bearer, credentials: {name: {{ $authentication.secretName | quote }}, key: {{ $authentication.secretKey | quote }}}}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Namespaces in which monitors look for jobs. */}}
{{- define "data-platform.namespaceSelector" -}}
{{- if include "data-platform.watchesAll" . -}}
any: true
{{- else -}}
matchNames: {{ include "data-platform.namespaces" . }}
{{- end }}
{{- end }}

{{/* What the pods of every job have, as JSON for the operator; what is empty is left out. */}}
{{- define "data-platform.runnerPod" -}}
{{- $pod := dict }}
{{- range $name, $value := .Values.runner.pod }}
{{- if or $value (eq $name "securityContext") }}{{ $pod = set $pod $name $value }}{{ end }}
{{- end }}
{{- if not (hasKey .Values.runner.pod "securityContext") }}{{ $pod = set $pod "securityContext" nil }}{{ end }}
{{- toJson $pod }}
{{- end }}

{{/* A time such as 1m30s in milliseconds. */}}
{{- define "data-platform.milliseconds" -}}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $unit := regexFind "[a-z]+" . }}
{{- $factor := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit }}
{{- $sum = add $sum (mul (int64 (regexFind "[0-9]+" .)) $factor) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* Combinations of values that the schema cannot refuse. Each message names the values and the cure. */}}
{{- define "data-platform.check" -}}
{{- $values := .Values }}
{{- if and (include "data-platform.watchesAll" .) (gt (len $values.watchNamespaces) 1) }}
{{- fail "watchNamespaces: \"*\" means all namespaces: write it alone, or list the namespaces" }}
{{- end }}
{{- if and (gt (int $values.replicas) 1) (not $values.leaderElection.enabled) }}
{{- fail "replicas: more than one needs leaderElection.enabled: true" }}
{{- end }}
{{- if and $values.metrics.podMonitor.enabled $values.metrics.serviceMonitor.enabled }}
{{- fail "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled: one of them is enough; both would count everything twice" }}
{{- end }}
{{- if ne (not $values.storage.outputs) (not $values.storage.checkpoints) }}
{{- fail "storage.outputs and storage.checkpoints: set both URLs, or none of them" }}
{{- end }}
{{- $election := $values.leaderElection }}
{{- $duration := int64 (include "data-platform.milliseconds" $election.leaseDuration) }}
{{- $deadline := int64 (include "data-platform.milliseconds" $election.renewDeadline) }}
{{- if ge $deadline $duration }}
{{- fail (printf "leaderElection.renewDeadline: %s is not shorter than leaseDuration %s: then two operators could lead" $election.renewDeadline $election.leaseDuration) }}
{{- end }}
{{- if ge (int64 (include "data-platform.milliseconds" $election.retryPeriod)) $deadline }}
{{- fail (printf "leaderElection.retryPeriod: %s is not shorter than renewDeadline %s: the leader would lose before it tries" $election.retryPeriod $election.renewDeadline) }}
{{- end }}
{{- if and $values.storage.claimName $values.storage.outputs }}
{{- fail "storage.claimName and storage.outputs: a claim or URLs, not both" }}
{{- end }}
{{- end }}
