{{/* Refuses combinations that cannot run, with a message that says how to fix them. */}}
{{- define "gan-tuner.checks" -}}
{{- $v := .Values -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release name %s is not a valid prefix of an Experiment's name: it must start with a letter and contain only lower-case letters, digits and -. Install it under another name, such as gan" .Release.Name) -}}
{{- end -}}
{{- if and (eq $v.gpu.pool "none") (ne $v.gpu.mode "devicePlugin") -}}
{{- fail (printf "gpu.mode %s needs GPUs, but gpu.pool is none: set gpu.pool to generic, gke, eks or aks, or set gpu.mode to devicePlugin" $v.gpu.mode) -}}
{{- end -}}
{{- if and (eq $v.gpu.mode "dra") (semverCompare "<1.34.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "gpu.mode dra needs resource.k8s.io/v1 of Kubernetes 1.34 or newer, but the version is %s: set gpu.mode to devicePlugin" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and $v.spot.enabled (not $v.checkpoints.enabled) -}}
{{- fail "spot.enabled needs a volume that survives the pod: set checkpoints.enabled=true" -}}
{{- end -}}
{{- if and $v.data.volume.enabled (eq $v.data.dataset "digits") -}}
{{- fail "data.volume is not needed for data.dataset digits, which is part of the image: set data.volume.enabled=false, or set data.dataset to another data set" -}}
{{- end -}}
{{- range $label := list "name" "component" "instance" -}}
{{- $label = printf "app.kubernetes.io/%s" $label -}}
{{- if hasKey ($v.trial.podLabels | default dict) $label -}}
{{- fail (printf "trial.podLabels must not contain %s: %s, because the chart sets this label for the network policy and the PodMonitor: remove it, or use another key" $label (get $v.trial.podLabels $label)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.namespace.create (eq (include "gan-tuner.namespace" .) .Release.Namespace) -}}
{{- fail (printf "namespace.create cannot create %s, because the release is stored in it: kubectl create namespace %s && kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled, or set namespace.name to another one" .Release.Namespace .Release.Namespace .Release.Namespace) -}}
{{- end -}}
{{- if and $v.client.enabled (not (dig $v.client.experiment "enabled" false $v.experiments)) -}}
{{- fail (printf "client.experiment must name an enabled experiment, got %s: use one of %s" $v.client.experiment (keys $v.experiments | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if lookup "v1" "Namespace" "" "default" -}}{{/* the namespace default exists, so a cluster answered */}}
{{- if not (.Capabilities.APIVersions.Has "kubeflow.org/v1beta1/Experiment") -}}
{{- fail "the cluster has no Experiments (kubeflow.org/v1beta1): install Katib 0.19 first" -}}
{{- end -}}
{{- if and $v.podMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
{{- fail "podMonitor.enabled needs the PodMonitors of the Prometheus operator (monitoring.coreos.com/v1), which the cluster does not have: install the operator first, or set podMonitor.enabled=false" -}}
{{- end -}}
{{- end -}}
{{- $namespace := include "gan-tuner.namespace" . -}}
{{- $found := lookup "v1" "Namespace" "" $namespace -}}
{{- if $found -}}
{{- if ne (dig "metadata" "labels" "katib.kubeflow.org/metrics-collector-injection" "" $found) "enabled" -}}
{{- fail (printf "Katib refuses Experiments in a namespace without its label: run kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled" $namespace) -}}
{{- end -}}
{{- else if and (not $v.namespace.create) (lookup "v1" "Namespace" "" "default") -}}{{/* the namespace default exists, so a cluster answered */}}
{{- fail (printf "namespace %s must exist and have Katib's label before you install the release (--create-namespace takes effect later and sets no label): kubectl create namespace %s && kubectl label namespace %s katib.kubeflow.org/metrics-collector-injection=enabled" $namespace $namespace $namespace) -}}
{{- end -}}
{{- end }}

{{/* Checks one experiment: dict "name" "e" (its values). */}}
{{- define "gan-tuner.checkExperiment" -}}
{{- $names := list -}}
{{- $flags := list -}}
{{- range .e.parameters -}}
{{- if has .name $names -}}
{{- fail (printf "parameter names must be unique, but %s is listed twice in experiment %s: remove one" .name $.name) -}}
{{- end -}}
{{- if eq .name "trial" -}}
{{- fail (printf "the parameter name trial is reserved for the trial's name, but experiment %s has such a parameter: rename it and set its flag" $.name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- $flags = append $flags (include "gan-tuner.flag" .) -}}
{{- end -}}
{{- range .e.args -}}
{{- $flags = append $flags (splitList "=" . | first) -}}
{{- end -}}
{{- $own := dict
  "--resume" "remove it"
  "--metrics-file" "remove it"
  "--output-dir" "remove it, and set checkpoints.enabled to keep the files"
  "--dataset" "set data.dataset"
  "--data-dir" "set data.volume"
  "--stop-at" "set stopFactors and stopTrials"
  "--stop-metric" "remove it"
  "--metrics-port" "set podMonitor"
  "--metrics-host" "set podMonitor" -}}
{{- range $i, $flag := $flags -}}
{{- if hasKey $own $flag -}}
{{- fail (printf "the chart sets %s of a trial, but args or parameters of experiment %s contain it: %s" $flag $.name (get $own $flag)) -}}
{{- end -}}
{{- if has $flag (slice $flags 0 $i) -}}
{{- fail (printf "a flag must be given once, but %s is given twice in experiment %s: keep it in parameters or in args" $flag $.name) -}}
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
{{- with .e.objective.costMetric }}
{{- if not (has . $.e.objective.additionalMetrics) -}}
{{- fail (printf "objective.costMetric must be in objective.additionalMetrics for experiment %s, got %s: add it there" $.name .) -}}
{{- end -}}
{{- end -}}
{{/* The settings of each algorithm: a pattern that the value must match, and its description. */}}
{{- $count := list "^[1-9][0-9]*$" "a whole number of at least 1" -}}
{{- $whole := list "^[0-9]+$" "a whole number of at least 0" -}}
{{- $positive := list "^([0-9]*[1-9][0-9]*(\\.[0-9]*)?|[0-9]*\\.[0-9]*[1-9][0-9]*)([eE][-+]?[0-9]+)?$" "a number above 0" -}}
{{- $seed := dict "random_state" $whole -}}
{{- $known := dict
  "grid" $seed
  "random" $seed
  "tpe" (merge (dict "gamma" (list "^(0?\\.[0-9]*[1-9][0-9]*|[1-9](\\.[0-9]*)?[eE]-[0-9]+)$" "a number between 0 and 1") "prior_weight" $positive "n_EI_candidates" $count) $seed)
  "multivariate-tpe" (merge (dict "n_startup_trials" $whole "n_ei_candidates" $whole) $seed)
  "bayesianoptimization" (merge (dict "base_estimator" (list "^(GP|RF|ET|GBRT)$" "GP, RF, ET or GBRT") "n_initial_points" $count "acq_func" (list "^(gp_hedge|LCB|EI|PI)$" "gp_hedge, LCB, EI or PI") "acq_optimizer" (list "^(auto|sampling|lbfgs)$" "auto, sampling or lbfgs")) $seed)
  "cmaes" (merge (dict "sigma" $positive "restart_strategy" (list "^(none|ipop|bipop)$" "none, ipop or bipop")) $seed)
  "sobol" $seed
  "hyperband" (dict "r_l" $positive "resource_name" (list "." "the name of a parameter") "eta" (list "^([2-9]|[1-9][0-9]+)$" "a whole number of at least 2")) -}}
{{- $settings := get $known .e.algorithm.name -}}
{{- range $setting, $value := .e.algorithm.settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- if not (hasKey $settings $setting) -}}
{{- fail (printf "algorithm.settings.%s is not a setting of %s (it has: %s), so Katib would fail the search of experiment %s: set experiments.%s.algorithm.settings.%s=null" $setting $.e.algorithm.name (keys $settings | sortAlpha | join ", ") $.name $.name $setting) -}}
{{- end -}}
{{- $rule := get $settings $setting -}}
{{- if not (regexMatch (index $rule 0) $value) -}}
{{- fail (printf "algorithm.settings.%s must be %s, got %s, so Katib would fail the search of experiment %s: change experiments.%s.algorithm.settings.%s" $setting (index $rule 1) $value $.name $.name $setting) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq .e.algorithm.name "hyperband" -}}
{{- $settings := .e.algorithm.settings | default dict -}}
{{- if not (and $settings.r_l (has $settings.resource_name $names)) -}}
{{- fail (printf "hyperband needs the settings r_l (the maximum resource of a trial) and resource_name (the parameter that sets it, one of %s), got %v and %v for experiment %s: set both in experiments.%s.algorithm.settings" (join ", " $names) ($settings.r_l | default "none") ($settings.resource_name | default "none") .name .name) -}}
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
{{- fail (printf "min < max must hold for parameter %s of experiment %s, got min=%s, max=%s: change the bounds, or move the flag to args" .name $.name .min .max) -}}
{{- end -}}
{{- if and .min (eq (.distribution | default "") "logUniform") (le (float64 .min) 0.0) -}}
{{- fail (printf "logUniform needs min > 0 for parameter %s of experiment %s, got min=%s: increase min, or use distribution uniform" .name $.name .min) -}}
{{- end -}}
{{- if and .step (le (float64 .step) 0.0) -}}
{{- fail (printf "step > 0 must hold for parameter %s of experiment %s, got step=%s: increase it, or remove it" .name $.name .step) -}}
{{- end -}}
{{- if eq $.e.algorithm.name "grid" -}}
{{- if and (eq .type "double") (not .step) -}}
{{- fail (printf "grid needs a step, or a list, for parameter %s of experiment %s: use type categorical with a list" .name $.name) -}}
{{- end -}}
{{- if .list -}}
{{- $points = mul $points (len .list) -}}
{{- else -}}{{/* max is a grid point if a step reaches it within one millionth */}}
{{- $points = mul $points (int64 (floor (addf 1.000001 (divf (subf (float64 .max) (float64 .min)) (float64 (.step | default "1")))))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .e.algorithm.name "grid") (gt (int64 .e.budget.trials) $points) -}}
{{- fail (printf "budget.trials must be at most the grid's %d points for experiment %s, got %d: lower trials" $points .name (int64 .e.budget.trials)) -}}
{{- end -}}
{{- if gt (len (.e.firstTrials | default list)) (int .e.budget.trials) -}}
{{- fail (printf "budget.trials must be at least the number of firstTrials for experiment %s, got %d and %d: increase trials" .name (int .e.budget.trials) (len .e.firstTrials)) -}}
{{- end -}}
{{- range $place, $point := .e.firstTrials -}}
{{- if has $point (slice $.e.firstTrials 0 $place) -}}
{{- fail (printf "each of firstTrials must be another point, but %s is listed twice in experiment %s: remove one" (toJson $point) $.name) -}}
{{- end -}}
{{- if ne (keys . | sortAlpha | join ", ") ($names | sortAlpha | join ", ") -}}
{{- fail (printf "each of firstTrials must name every parameter of experiment %s (%s), got %s: change it, or set firstTrials=null" $.name ($names | sortAlpha | join ", ") (keys . | sortAlpha | join ", ")) -}}
{{- end -}}
{{- range $.e.parameters -}}
{{- $value := get $point .name -}}
{{- if and .list (not (has $value .list)) -}}
{{- fail (printf "firstTrials must use values of the lists, but %s=%s of experiment %s is not one of %s: change it, or set firstTrials=null" .name $value $.name (join ", " .list)) -}}
{{- end -}}
{{- if and .min (or (lt (float64 $value) (float64 .min)) (gt (float64 $value) (float64 .max))) -}}
{{- fail (printf "firstTrials must lie between min and max, but %s=%s of experiment %s is not in [%s, %s]: change it, or set firstTrials=null" .name $value $.name .min .max) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .e.stopTrials (not (has "stopped" .e.objective.additionalMetrics)) -}}
{{- fail (printf "stopTrials of experiment %s needs the metric stopped, by which a stopped trial is recognized: add stopped to objective.additionalMetrics" .name) -}}
{{- end -}}
{{- if and .e.stopFactors (eq .e.algorithm.name "hyperband") -}}
{{- fail (printf "hyperband stops trials itself, but experiment %s has stopFactors: remove stopFactors" .name) -}}
{{- end -}}
{{- if and .e.stopFactors (ne .e.objective.type "minimize") -}}
{{- fail (printf "stopFactors of experiment %s need objective.type=minimize, got %s: remove stopFactors" .name .e.objective.type) -}}
{{- end -}}
{{- end }}

{{/* Refuses changes of counts that Katib's webhook would refuse on an existing Experiment (validator.go): dict "root" "name" "e". */}}
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
{{- fail (printf "Katib allows a new budget for a finished search only if the search reached its number of trials, but %s finished with %s: use another key under experiments, or restore the budget (%s)" $experiment .reason $back) -}}
{{- end -}}
{{- end -}}
{{- $made := int64 (dig "status" "trials" 0 $live) -}}
{{- if le (int64 .e.budget.trials) $made -}}
{{- fail (printf "budget.trials must be greater than the %d trials that %s has created, got %d: increase experiments.%s.budget.trials, or restore the budget (%s)" $made $experiment (int64 .e.budget.trials) .name $back) -}}
{{- end -}}
{{- end -}}
{{- end }}
