{{/* The Job of one trial, as Katib's trialSpec: dict "root" $ "e" (an experiment's values). */}}
{{- define "gan-tuner.trial" -}}
{{- $v := .root.Values -}}
apiVersion: batch/v1
kind: Job
{{- with $v.kueue.queueName }}
metadata:
  labels:
    kueue.x-k8s.io/queue-name: {{ . }}
{{- end }}
spec:
  {{- if $v.kueue.queueName }}
  suspend: true
  {{- end }}
  backoffLimit: {{ ternary 3 0 $v.spot.enabled }}
  activeDeadlineSeconds: {{ ternary $v.trial.spotDeadlineSeconds $v.trial.activeDeadlineSeconds $v.spot.enabled }}
  {{- if $v.spot.enabled }}
  podFailurePolicy:
    rules:
    - action: Ignore
      onPodConditions:
      - type: DisruptionTarget
        status: "True"
    - action: FailJob
      onExitCodes:
        containerName: trainer
        operator: In
        values: [2, 3]
  {{- end }}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: gan-tuner
        app.kubernetes.io/component: trial
        app.kubernetes.io/instance: {{ .root.Release.Name }}
        {{- with $v.trial.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $v.trial.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "gan-tuner.serviceAccount" .root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ ternary 25 30 $v.spot.enabled }}
      {{- with $v.trial.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $v.image.pullSecrets }}
      imagePullSecrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
      {{- end }}
      securityContext:
        {{- include "gan-tuner.podSecurityContext" .root | nindent 8 }}
      nodeSelector: {{- include "gan-tuner.nodeSelector" .root | nindent 8 }}
      {{- with include "gan-tuner.tolerations" .root }}
      tolerations:
      {{- . | nindent 6 }}
      {{- end }}
      {{- if eq $v.gpu.mode "dra" }}
      resourceClaims:
      - name: gpu
        resourceClaimTemplateName: {{ .root.Release.Name }}-gpu
      {{- end }}
      containers:
      - name: trainer
        image: {{ include "gan-tuner.image" .root }}
        imagePullPolicy: {{ $v.image.pullPolicy }}
        command: [python, -m, trainer]
        args:
        {{- range .e.parameters }}
        - {{ .flag | default (printf "--%s" .name) }}=${trialParameters.{{ .name }}}
        {{- end }}
        {{- range .e.args }}
        - {{ . }}
        {{- end }}
        - --seed=0
        - --evals=10
        - --resume=auto
        - --metrics-file=/var/log/katib/metrics.log
        - --output-dir=/output/${trialParameters.trial}
        {{- if ne $v.data.dataset "digits" }}
        - --dataset={{ $v.data.dataset }}
        - --data-dir=/data
        {{- end }}
        {{- if $v.podMonitor.enabled }}
        - --metrics-port={{ $v.podMonitor.port }}
        ports:
        - name: metrics
          containerPort: {{ $v.podMonitor.port }}
        {{- end }}
        {{- if $v.spot.enabled }}
        # Katib runs the command as a child of `sh -c`, which does not pass SIGTERM on: tell the trainer itself, let it save.
        lifecycle:
          preStop:
            exec:
              command:
              - sh
              - -c
              - {{ include "gan-tuner.preStop" . | quote }}
        {{- end }}
        resources:
          {{- include "gan-tuner.resources" .root | nindent 10 }}
        securityContext:
          {{- include "gan-tuner.securityContext" .root | nindent 10 }}
        volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: output
          mountPath: /output
        {{- if $v.data.volume.enabled }}
        - name: data
          mountPath: /data
          readOnly: true
        {{- end }}
      volumes:
      - name: tmp
        emptyDir:
          sizeLimit: 1Gi
      - name: output
        {{- if $v.checkpoints.enabled }}
        persistentVolumeClaim:
          claimName: {{ include "gan-tuner.checkpoints" .root }}
        {{- else }}
        emptyDir:
          sizeLimit: 1Gi
        {{- end }}
      {{- if $v.data.volume.enabled }}
      - name: data
        persistentVolumeClaim:
          claimName: {{ include "gan-tuner.data" .root }}
          readOnly: true
      {{- end }}
{{- end }}

{{- define "gan-tuner.preStop" -}}
for p in /proc/[0-9]*; do case "$(tr '\0' ' ' < $p/cmdline)" in "python -m trainer "*) kill -TERM "${p#/proc/}";; esac; done; sleep 5
{{- end }}
