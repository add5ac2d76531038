{{/* The namespace of everything but the release itself. */}}
{{- define "gan-tuner.namespace" -}}
{{ .Values.namespace.name | default .Release.Namespace }}
{{- end }}

{{- define "gan-tuner.labels" -}}
app.kubernetes.io/name: gan-tuner
app.kubernetes.io/instance: {{ .Release.Name }}
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

{{/* Pod Security restricted: of the pod, and of each container. */}}
{{- define "gan-tuner.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.trial.runAsUser }}
runAsGroup: {{ .Values.trial.runAsUser }}
fsGroup: {{ .Values.trial.runAsUser }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "gan-tuner.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .Values.trial.runAsUser }}
runAsGroup: {{ .Values.trial.runAsUser }}
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The labels that choose a GPU pool. */}}
{{- define "gan-tuner.nodeSelector" -}}
{{- $pools := dict
  "none" (dict)
  "generic" (dict "nvidia.com/gpu.present" "true")
  "gke" (dict "cloud.google.com/gke-accelerator" "nvidia-l4")
  "eks" (dict "eks.amazonaws.com/nodegroup" "gpu")
  "aks" (dict "kubernetes.azure.com/accelerator" "nvidia") -}}
{{- $labels := .Values.gpu.nodeSelector | default (get $pools .Values.gpu.pool) -}}
{{- if eq .Values.gpu.mode "mig" -}}
{{- $labels = merge (dict "nvidia.com/mig.strategy" "mixed") $labels -}}
{{- end -}}
{{- toYaml (merge (dict "kubernetes.io/os" "linux") $labels) -}}
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
{{- with concat $all .Values.gpu.tolerations -}}
{{- toYaml . -}}
{{- end -}}
{{- end }}

{{/* Requests and limits: CPU and memory of the values or the pool, and the GPU. */}}
{{- define "gan-tuner.resources" -}}
{{- $cpu := dict "requests" (dict "cpu" "500m" "memory" "512Mi") "limits" (dict "cpu" "1" "memory" "1Gi") -}}
{{- $gpu := dict "requests" (dict "cpu" "1" "memory" "2Gi") "limits" (dict "cpu" "2" "memory" "4Gi") -}}
{{- $all := mergeOverwrite (ternary $cpu $gpu (eq .Values.gpu.pool "none")) (deepCopy .Values.trial.resources) -}}
{{- if and (ne .Values.gpu.pool "none") (ne .Values.gpu.mode "dra") -}}
{{- $name := ternary (printf "nvidia.com/mig-%s" .Values.gpu.migProfile) "nvidia.com/gpu" (eq .Values.gpu.mode "mig") -}}
{{- $_ := set $all.requests $name "1" -}}
{{- $_ := set $all.limits $name "1" -}}
{{- end -}}
{{- if eq .Values.gpu.mode "dra" -}}
{{- $_ := set $all "claims" (list (dict "name" "gpu")) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end }}
