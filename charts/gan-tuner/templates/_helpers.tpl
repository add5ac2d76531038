{{/* The namespace of all objects except the release. */}}
{{- define "gan-tuner.namespace" -}}
{{ .Values.namespace.name | default .Release.Namespace }}
{{- end }}

{{- define "gan-tuner.labels" -}}
app.kubernetes.io/name: gan-tuner
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gan-tuner.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default (printf "%s-%s" $.Chart.AppVersion (ternary "cpu" "cuda" (eq $.Values.gpu.pool "none"))) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gan-tuner.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary .Release.Name "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "gan-tuner.checkpoints" -}}
{{ .Values.checkpoints.existingClaim | default (printf "%s-checkpoints" .Release.Name) }}
{{- end }}

{{- define "gan-tuner.data" -}}
{{ .Values.data.volume.existingClaim | default (printf "%s-data" .Release.Name) }}
{{- end }}

{{/* NAME-HASH, where the hash is that of the Job's immutable pod template: dict "name" "template" (its text). */}}
{{- define "gan-tuner.jobName" -}}
{{ .name | trunc 54 | trimSuffix "-" }}-{{ sha256sum .template | trunc 8 }}
{{- end }}

{{- define "gan-tuner.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Security contexts for Pod Security level restricted, of the pod and of each container. */}}
{{- define "gan-tuner.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ int64 .Values.trial.runAsUser }}
runAsGroup: {{ int64 .Values.trial.runAsUser }}
fsGroup: {{ int64 .Values.trial.runAsUser }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "gan-tuner.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ int64 .Values.trial.runAsUser }}
runAsGroup: {{ int64 .Values.trial.runAsUser }}
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The node labels of a GPU pool and of its spot nodes; gpu.nodeSelector replaces all of them. */}}
{{- define "gan-tuner.nodeSelector" -}}
{{- $gpu := .Values.gpu -}}
{{- $pools := dict
  "none" (dict)
  "generic" (dict "nvidia.com/gpu.present" "true")
  "gke" (dict "cloud.google.com/gke-accelerator" "nvidia-l4")
  "eks" (dict "eks.amazonaws.com/nodegroup" "gpu")
  "aks" (dict "kubernetes.azure.com/accelerator" "nvidia") -}}
{{- $spot := dict
  "gke" (dict "cloud.google.com/gke-spot" "true")
  "eks" (dict "eks.amazonaws.com/capacityType" "SPOT")
  "aks" (dict "kubernetes.azure.com/scalesetpriority" "spot") -}}
{{- $labels := get $pools $gpu.pool -}}
{{- if and (eq $gpu.mode "mig") (eq $gpu.pool "gke") -}}
{{- $labels = dict "cloud.google.com/gke-gpu-partition-size" $gpu.migProfile -}}
{{- else if eq $gpu.mode "mig" -}}
{{- $_ := set $labels "nvidia.com/mig.strategy" "mixed" -}}
{{- end -}}
{{- if .Values.spot.enabled -}}
{{- $labels = merge $labels (get $spot $gpu.pool | default dict) -}}
{{- end -}}
{{- toYaml (merge (dict "kubernetes.io/os" "linux") ($gpu.nodeSelector | default $labels)) -}}
{{- end }}

{{- define "gan-tuner.tolerations" -}}
{{- $all := list -}}
{{- if ne .Values.gpu.pool "none" -}}
{{- $all = append $all (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- if eq .Values.gpu.pool "aks" -}}
{{- $all = append $all (dict "key" "sku" "operator" "Equal" "value" "gpu" "effect" "NoSchedule") -}}
{{- end -}}
{{- if .Values.spot.enabled -}}
{{- $all = append $all (dict "key" "cloud.google.com/gke-spot" "operator" "Equal" "value" "true" "effect" "NoSchedule") -}}
{{- $all = append $all (dict "key" "kubernetes.azure.com/scalesetpriority" "operator" "Equal" "value" "spot" "effect" "NoSchedule") -}}
{{- end -}}
{{- with concat $all (.Values.gpu.tolerations | default list) -}}
{{- toYaml . -}}
{{- end -}}
{{- end }}

{{/* Requests and limits: CPU and memory from the values or the pool's defaults, and the GPU (GKE counts a MIG slice as a GPU). */}}
{{- define "gan-tuner.resources" -}}
{{- $gpu := .Values.gpu -}}
{{- $small := dict "requests" (dict "cpu" "500m" "memory" "512Mi") "limits" (dict "cpu" "1" "memory" "1Gi") -}}
{{- $large := dict "requests" (dict "cpu" "1" "memory" "2Gi") "limits" (dict "cpu" "2" "memory" "4Gi") -}}
{{- $all := deepCopy (.Values.trial.resources | default (ternary $small $large (eq $gpu.pool "none"))) -}}
{{- if eq $gpu.mode "dra" -}}
{{- $_ := set $all "claims" (list (dict "name" "gpu")) -}}
{{- else if ne $gpu.pool "none" -}}
{{- $slice := and (eq $gpu.mode "mig") (ne $gpu.pool "gke") -}}
{{- $name := ternary (printf "nvidia.com/mig-%s" $gpu.migProfile) "nvidia.com/gpu" $slice -}}
{{- range list "requests" "limits" -}}
{{- $_ := set $all . (merge (dict $name "1") (get $all . | default dict)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end }}
