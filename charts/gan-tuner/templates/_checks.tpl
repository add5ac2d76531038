{{/* Combinations that could never run: refused at render, with the remedy. */}}
{{- define "gan-tuner.checks" -}}
{{- $v := .Values -}}
{{- if and (eq $v.gpu.pool "none") (ne $v.gpu.mode "devicePlugin") -}}
{{- fail (printf "gpu.mode %s needs GPUs, got gpu.pool none: set gpu.pool to generic, gke, eks or aks, or gpu.mode to devicePlugin" $v.gpu.mode) -}}
{{- end -}}
{{- if and (eq $v.gpu.mode "dra") (semverCompare "<1.34.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "gpu.mode dra needs resource.k8s.io/v1 of Kubernetes 1.34 or newer, got %s: set gpu.mode to devicePlugin" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and $v.spot.enabled (not $v.checkpoints.enabled) -}}
{{- fail "spot.enabled needs a volume that outlives the pod: set checkpoints.enabled=true" -}}
{{- end -}}
{{- if and $v.data.volume.enabled (eq $v.data.dataset "digits") -}}
{{- fail "data.volume is for data sets that are not in the image, got data.dataset digits, which is: set data.volume.enabled=false, or another data.dataset" -}}
{{- end -}}
{{- if and $v.namespace.create (eq (include "gan-tuner.namespace" .) .Release.Namespace) -}}
{{- fail (printf "namespace.create cannot make %s, where the release itself is kept: kubectl create namespace %s && kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled, or set namespace.name to another one" .Release.Namespace .Release.Namespace .Release.Namespace) -}}
{{- end -}}
{{- if and $v.client.enabled (not (dig $v.client.experiment "enabled" false $v.experiments)) -}}
{{- fail (printf "client.experiment must name an enabled experiment, got %s: one of %s" $v.client.experiment (keys $v.experiments | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $found := lookup "v1" "Namespace" "" (include "gan-tuner.namespace" .) -}}
{{- if $found -}}
{{- if ne (dig "metadata" "labels" "katib.kubeflow.org/metrics-collector-injection" "" $found) "enabled" -}}
{{- fail (printf "Katib refuses Experiments in a namespace without its label: kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled" $found.metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The same for one experiment: dict "name" "e" (its values). */}}
{{- define "gan-tuner.checkExperiment" -}}
{{- if gt (int .e.budget.parallel) (int .e.budget.trials) -}}
{{- fail (printf "budget.parallel must be at most budget.trials for experiment %s, got %d and %d: lower parallel" .name (int .e.budget.parallel) (int .e.budget.trials)) -}}
{{- end -}}
{{- if gt (int .e.budget.maxFailed) (int .e.budget.trials) -}}
{{- fail (printf "budget.maxFailed must be at most budget.trials for experiment %s, got %d and %d: lower maxFailed" .name (int .e.budget.maxFailed) (int .e.budget.trials)) -}}
{{- end -}}
{{- if has .e.objective.metric .e.objective.additionalMetrics -}}
{{- fail (printf "objective.metric must not be in objective.additionalMetrics for experiment %s, got %s: remove it there" .name .e.objective.metric) -}}
{{- end -}}
{{- $known := dict
  "grid" (list "random_state")
  "random" (list "random_state")
  "tpe" (list "gamma" "prior_weight" "n_EI_candidates" "random_state")
  "multivariate-tpe" (list "n_startup_trials" "n_ei_candidates" "random_state")
  "bayesianoptimization" (list "base_estimator" "n_initial_points" "acq_func" "acq_optimizer" "random_state")
  "cmaes" (list "random_state" "sigma" "restart_strategy")
  "sobol" list
  "hyperband" (list "r_l" "resource_name" "eta") -}}
{{- range $setting, $value := .e.algorithm.settings -}}
{{- if and (not (kindIs "invalid" $value)) (not (has $setting (get $known $.e.algorithm.name))) -}}
{{- fail (printf "algorithm.settings.%s is not one of %s's (%s) for experiment %s, and would end the search: set experiments.%s.algorithm.settings.%s=null" $setting $.e.algorithm.name (get $known $.e.algorithm.name | join ", ") $.name $.name $setting) -}}
{{- end -}}
{{- end -}}
{{- $points := 1 -}}
{{- range .e.parameters -}}
{{- if and (has .type (list "double" "int")) (or .list (not .min) (not .max)) -}}
{{- fail (printf "a parameter of type %s needs min and max, and no list: experiment %s, parameter %s" .type $.name .name) -}}
{{- end -}}
{{- if and (has .type (list "categorical" "discrete")) (or .min .max .step (not .list)) -}}
{{- fail (printf "a parameter of type %s needs a list, and no min, max or step: experiment %s, parameter %s" .type $.name .name) -}}
{{- end -}}
{{- if and (eq $.e.algorithm.name "grid") (eq .type "double") (not .step) -}}
{{- fail (printf "grid needs a step, or a list, for parameter %s of experiment %s: use type categorical with a list" .name $.name) -}}
{{- end -}}
{{- if .list -}}{{- $points = mul $points (len .list) -}}{{- end -}}
{{- if or .min .step -}}{{- $points = 0 -}}{{- end -}}
{{- end -}}
{{- if and (eq .e.algorithm.name "grid") (gt $points 0) (gt (int .e.budget.trials) $points) -}}
{{- fail (printf "budget.trials must be at most the grid's %d points for experiment %s, got %d: lower trials" $points .name (int .e.budget.trials)) -}}
{{- end -}}
{{- end }}
