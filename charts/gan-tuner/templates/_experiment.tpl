{{/* The spec of one Experiment, without the three counts: dict "root" $ "e" (its values). */}}
{{- define "gan-tuner.spec" -}}
objective:
  type: {{ .e.objective.type }}
  {{- if not (kindIs "invalid" .e.objective.goal) }}
  goal: {{ .e.objective.goal }}
  {{- end }}
  objectiveMetricName: {{ .e.objective.metric | quote }}
  {{- with .e.objective.additionalMetrics }}
  additionalMetricNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  metricStrategies: # the score of the weights that are saved, not the best score of the run
  {{- range prepend .e.objective.additionalMetrics .e.objective.metric }}
  - name: {{ . | quote }}
    value: latest
  {{- end }}
algorithm:
  algorithmName: {{ .e.algorithm.name }}
  {{- $settings := deepCopy (.e.algorithm.settings | default dict) }}
  {{- if and .e.runFirstTrials .e.firstTrials }}
  {{- $_ := set $settings "first_trials" (toJson .e.firstTrials) }}
  {{- end }}
  {{- if and .e.stopTrials .e.stopFactors }}
  {{- $_ := set $settings "stop_factors" (toJson .e.stopFactors) }}
  {{- end }}
  {{- with $settings }}
  algorithmSettings:
  {{- range $name, $value := . }}
  {{- if not (kindIs "invalid" $value) }}
  - name: {{ $name | quote }}
    value: {{ $value | quote }}
  {{- end }}
  {{- end }}
  {{- end }}
resumePolicy: {{ .e.resumePolicy }}
parameters:
{{- range .e.parameters }}
- name: {{ .name | quote }}
  parameterType: {{ .type }}
  feasibleSpace:
    {{- toYaml (pick . "min" "max" "step" "distribution" "list") | nindent 4 }}
{{- end }}
metricsCollectorSpec: # the collector StdOut would leave `kubectl logs` empty
  collector:
    kind: File
  source:
    fileSystemPath:
      kind: File
      path: /var/log/katib/metrics.log
      format: TEXT
trialTemplate:
  retain: {{ .root.Values.trial.retain }}
  primaryContainerName: trainer
  trialParameters:
  {{- range .e.parameters }}
  - name: {{ .name | quote }}
    reference: {{ .name | quote }}
  {{- end }}
  - name: trial
    reference: ${trialSpec.Name}
  trialSpec:
    {{- include "gan-tuner.trial" . | nindent 4 }}
{{- end }}

{{/* The annotations of one Experiment: dict "root" $ "e" (its values). gantune reads those of gan-tuner, and Katib ignores them. */}}
{{- define "gan-tuner.annotations" -}}
{{- if .root.Values.keepExperiments }}
helm.sh/resource-policy: keep
{{- end }}
{{- with .e.firstTrials }}
gan-tuner/first-trials: {{ toJson . | quote }}
{{- end }}
{{- with .e.stopFactors }}
gan-tuner/stop-factors: {{ toJson . | quote }}
{{- end }}
{{- with .e.objective.seedNoise }}
gan-tuner/seed-noise: {{ . | quote }}
{{- end }}
{{- with .e.objective.costMetric }}
gan-tuner/cost-metric: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "gan-tuner.counts" -}}
parallelTrialCount: {{ int64 .e.budget.parallel }}
maxTrialCount: {{ int64 .e.budget.trials }}
maxFailedTrialCount: {{ int64 .e.budget.maxFailed }}
{{- end }}

{{/* RELEASE-NAME-HASH, where the hash is that of the immutable fields. With resumePolicy Never these include the counts. */}}
{{- define "gan-tuner.experimentName" -}}
{{- $fixed := include "gan-tuner.spec" . -}}
{{- if eq .e.resumePolicy "Never" -}}
{{- $fixed = printf "%s\n%s" $fixed (include "gan-tuner.counts" .) -}}
{{- end -}}
{{- $name := printf "%s-%s-%s" .root.Release.Name .name (sha256sum $fixed | trunc 8) -}}
{{- if gt (len $name) 40 -}}
{{- fail (printf "Katib allows at most 40 characters in an Experiment's name, but %[2]s has %[1]d: shorten the release's name or the experiment's key" (len $name) $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}
