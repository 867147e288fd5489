{{/* What the operator may do in a watched namespace. Each rule says why; tests/charts/rights.txt is the golden list. */}}
{{- define "data-platform.operatorRules" -}}
# Jobs are read. They belong to their users: the operator never changes them.
- apiGroups: [dataplatform.io]
  resources: [streamingjobs, batchjobs]
  verbs: [list, watch]
# What it finds out about a job is written into the job's status.
- apiGroups: [dataplatform.io]
  resources: [streamingjobs/status, batchjobs/status]
  verbs: [patch]
# The configuration of a job, immutable and named by its hash; those that nothing uses any more are deleted.
# A headless Service for each streaming job, by which its pages are found.
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
# A streaming job runs as a Deployment.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# A batch job runs as a CronJob, or as a Job when it has no schedule.
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [get, list, watch, create, patch, delete]
# Why a pod does not start, and what it said when it ended, stands in the pod's status.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Whether the claim of the storage is there, and whether several nodes may mount it.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
# One event for each change of a job's condition. Why a Job gets no pod (a quota, a policy) stands in its events alone.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create]
{{- end }}
