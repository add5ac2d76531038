{{/* Combinations that could never run: refused at render, with the remedy. */}}
{{- define "gan-tuner.checks" -}}
{{- $v := .Values -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release's name must begin with a letter and hold letters, digits and - only (Katib's rule for an Experiment's name), got %s: install it under another name, such as gan" .Release.Name) -}}
{{- end -}}
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
{{- range $label := list "name" "component" "instance" -}}
{{- $label = printf "app.kubernetes.io/%s" $label -}}
{{- if hasKey ($v.trial.podLabels | default dict) $label -}}
{{- fail (printf "trial.podLabels must leave out the labels that the chart itself sets (the network policy and the PodMonitor select by them), got %s: %s: leave it out, or use a key of your own" $label (get $v.trial.podLabels $label)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.namespace.create (eq (include "gan-tuner.namespace" .) .Release.Namespace) -}}
{{- fail (printf "namespace.create cannot make %s, where the release itself is kept: kubectl create namespace %s && kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled, or set namespace.name to another one" .Release.Namespace .Release.Namespace .Release.Namespace) -}}
{{- end -}}
{{- if and $v.client.enabled (not (dig $v.client.experiment "enabled" false $v.experiments)) -}}
{{- fail (printf "client.experiment must name an enabled experiment, got %s: one of %s" $v.client.experiment (keys $v.experiments | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $namespace := include "gan-tuner.namespace" . -}}
{{- $found := lookup "v1" "Namespace" "" $namespace -}}
{{- if $found -}}
{{- if ne (dig "metadata" "labels" "katib.kubeflow.org/metrics-collector-injection" "" $found) "enabled" -}}
{{- fail (printf "Katib refuses Experiments in a namespace without its label: kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled" $namespace) -}}
{{- end -}}
{{- else if and (not $v.namespace.create) (lookup "v1" "Namespace" "" "default") -}}{{/* default is there: a cluster answers */}}
{{- fail (printf "namespace %s must be there, with Katib's label, before the release is (--create-namespace comes after this and sets no label): kubectl create namespace %s && kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled" $namespace $namespace $namespace) -}}
{{- end -}}
{{- end }}

{{/* The same for one experiment: dict "name" "e" (its values). */}}
{{- define "gan-tuner.checkExperiment" -}}
{{- $names := list -}}
{{- $flags := list -}}
{{- range .e.parameters -}}
{{- if has .name $names -}}
{{- fail (printf "each parameter must have a name of its own, got %s twice for experiment %s: remove one" .name $.name) -}}
{{- end -}}
{{- if eq .name "trial" -}}
{{- fail (printf "trial is the trial's own name in the template, got a parameter of that name for experiment %s: call it something else and give its flag" $.name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- $flags = append $flags (include "gan-tuner.flag" .) -}}
{{- end -}}
{{- range .e.args -}}
{{- $flags = append $flags (splitList "=" . | first) -}}
{{- end -}}
{{- $own := dict
  "--resume" "leave it out"
  "--metrics-file" "leave it out"
  "--output-dir" "leave it out, and set checkpoints.enabled to keep what is written there"
  "--dataset" "set data.dataset"
  "--data-dir" "set data.volume"
  "--metrics-port" "set podMonitor" -}}
{{- range $i, $flag := $flags -}}
{{- if hasKey $own $flag -}}
{{- fail (printf "the chart itself sets %s of a trial, got it in args or parameters of experiment %s: %s" $flag $.name (get $own $flag)) -}}
{{- end -}}
{{- if has $flag (slice $flags 0 $i) -}}
{{- fail (printf "a flag must be given once, got %s twice for experiment %s: keep it in parameters, or in args" $flag $.name) -}}
{{- end -}}
{{- end -}}
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
{{- if eq .e.algorithm.name "hyperband" -}}
{{- $settings := .e.algorithm.settings | default dict -}}
{{- if not (and $settings.r_l (has $settings.resource_name $names)) -}}
{{- fail (printf "hyperband needs the settings r_l, the most of a resource that a trial may use, and resource_name, the parameter that holds it (%s), got %v and %v for experiment %s: set both in experiments.%s.algorithm.settings" (join ", " $names) ($settings.r_l | default "none") ($settings.resource_name | default "none") .name .name) -}}
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
{{- if and .min (ge (float64 .min) (float64 .max)) -}}
{{- fail (printf "min < max must hold for parameter %s of experiment %s, got min=%s, max=%s: swap or part them, or take it into args" .name $.name .min .max) -}}
{{- end -}}
{{- if and .min (eq (.distribution | default "") "logUniform") (le (float64 .min) 0.0) -}}
{{- fail (printf "logUniform needs min > 0 for parameter %s of experiment %s, got min=%s: raise min, or use distribution uniform" .name $.name .min) -}}
{{- end -}}
{{- if and .step (le (float64 .step) 0.0) -}}
{{- fail (printf "step > 0 must hold for parameter %s of experiment %s, got step=%s: raise it, or leave it out" .name $.name .step) -}}
{{- end -}}
{{- if eq $.e.algorithm.name "grid" -}}
{{- if and (eq .type "double") (not .step) -}}
{{- fail (printf "grid needs a step, or a list, for parameter %s of experiment %s: use type categorical with a list" .name $.name) -}}
{{- end -}}
{{- if .list -}}
{{- $points = mul $points (len .list) -}}
{{- else -}}{{/* the end counts when a step hits it within a millionth */}}
{{- $points = mul $points (int64 (floor (addf 1.000001 (divf (subf (float64 .max) (float64 .min)) (float64 (.step | default "1")))))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .e.algorithm.name "grid") (gt (int64 .e.budget.trials) $points) -}}
{{- fail (printf "budget.trials must be at most the grid's %d points for experiment %s, got %d: lower trials" $points .name (int64 .e.budget.trials)) -}}
{{- end -}}
{{- end }}

{{/* What Katib would refuse of changed counts on an Experiment that lives (its validator.go): dict "root" "name" "e". */}}
{{- define "gan-tuner.checkCounts" -}}
{{- $live := dict -}}
{{- $experiment := include "gan-tuner.experimentName" . -}}
{{- if and (ne .e.resumePolicy "Never") (.root.Capabilities.APIVersions.Has "kubeflow.org/v1beta1/Experiment") -}}
{{- $live = lookup "kubeflow.org/v1beta1" "Experiment" (include "gan-tuner.namespace" .root) $experiment -}}
{{- end -}}
{{- $changed := false -}}
{{- range $count, $value := include "gan-tuner.counts" . | fromYaml -}}
{{- if and $live (ne (int64 $value) (int64 (get $live.spec $count))) -}}{{- $changed = true -}}{{- end -}}
{{- end -}}
{{- if $changed -}}
{{- $back := printf "--set experiments.%s.budget.trials=%v,experiments.%s.budget.parallel=%v,experiments.%s.budget.maxFailed=%v" .name $live.spec.maxTrialCount .name $live.spec.parallelTrialCount .name $live.spec.maxFailedTrialCount -}}
{{- range dig "status" "conditions" list $live -}}
{{- if and (has .type (list "Succeeded" "Failed")) (eq .status "True") (ne .reason "ExperimentMaxTrialsReached") -}}
{{- fail (printf "Katib changes the budget of an ended search only if it ended at its trials, and %s ended with %s: give the search another key under experiments, or leave its budget (%s)" $experiment .reason $back) -}}
{{- end -}}
{{- end -}}
{{- $made := int64 (dig "status" "trials" 0 $live) -}}
{{- if le (int64 .e.budget.trials) $made -}}
{{- fail (printf "budget.trials must be above the %d trials that %s has made, or Katib refuses the change, got %d: raise experiments.%s.budget.trials, or leave its budget (%s)" $made $experiment (int64 .e.budget.trials) .name $back) -}}
{{- end -}}
{{- end -}}
{{- end }}
