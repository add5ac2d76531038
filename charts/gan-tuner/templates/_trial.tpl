{{/* The Job of one trial, as Katib's trialSpec: dict "root" $ "e" (an experiment's values). */}}
{{- define "gan-tuner.trial" -}}
{{- $v := .root.Values -}}
apiVersion: batch/v1
kind: Job
{{- with $v.kueue.queueName }}
metadata:
  labels:
    kueue.x-k8s.io/queue-name: {{ . | quote }}
{{- end }}
spec:
  {{- if $v.kueue.queueName }}
  suspend: true
  {{- end }}
  backoffLimit: {{ ternary 3 0 $v.spot.enabled }}
  activeDeadlineSeconds: {{ ternary $v.trial.spotDeadlineSeconds $v.trial.activeDeadlineSeconds $v.spot.enabled | int64 }}
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
        app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
        {{- with $v.trial.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $v.trial.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "gan-tuner.serviceAccount" .root | quote }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ ternary 25 30 $v.spot.enabled }}
      {{- with $v.trial.priorityClassName }}
      priorityClassName: {{ . | quote }}
      {{- end }}
      {{- include "gan-tuner.pullSecrets" .root | nindent 6 }}
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
      {{- if $v.data.volume.enabled }}
      initContainers: # waits while the release's Job fills the volume; the trial's deadline includes the wait
      - name: data
        image: {{ include "gan-tuner.image" .root | quote }}
        imagePullPolicy: {{ $v.image.pullPolicy }}
        command: [sh, -c]
        args:
        - {{ include "gan-tuner.wait" .root | quote }}
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {cpu: 100m, memory: 64Mi}
        securityContext:
          {{- include "gan-tuner.securityContext" .root | nindent 10 }}
        volumeMounts:
        - name: data
          mountPath: /data
          readOnly: true
      {{- end }}
      containers:
      - name: trainer
        image: {{ include "gan-tuner.image" .root | quote }}
        imagePullPolicy: {{ $v.image.pullPolicy }}
        command: [python, -m, trainer]
        args: # the last of two equal flags counts: defaults come first, flags that users must not override come last
        - --seed=0
        - --evals=5
        - --samples=10000
        {{- range .e.parameters }}
        - {{ printf "%s=${trialParameters.%s}" (include "gan-tuner.flag" .) .name | quote }}
        {{- end }}
        {{- range .e.args }}
        - {{ . | quote }}
        {{- end }}
        - --resume=auto
        - --metrics-file=/var/log/katib/metrics.log
        - --output-dir=/output/${trialParameters.trial}
        {{- if ne $v.data.dataset "digits" }}
        - --dataset={{ $v.data.dataset }}
        - --data-dir=/data
        {{- end }}
        {{- if ne .e.objective.metric "fd" }}
        - --stop-metric={{ .e.objective.metric }}
        {{- end }}
        {{- if $v.podMonitor.enabled }}
        - --metrics-port={{ int64 $v.podMonitor.port }}
        - --metrics-host=0.0.0.0 # Prometheus scrapes from another pod
        ports:
        - name: metrics
          containerPort: {{ int64 $v.podMonitor.port }}
        {{- end }}
        env: # empty without gan-tuner's suggestion service; docs/how-to/early-stopping.md
        - name: GAN_TUNER_STOP_AT
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['gan-tuner/stop-at']
        {{- if $v.spot.enabled }}
        # Katib runs the command below `sh -c`, which does not forward SIGTERM: signal the trainer directly, so that it saves.
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
          claimName: {{ include "gan-tuner.checkpoints" .root | quote }}
        {{- else }}
        emptyDir:
          sizeLimit: 1Gi
        {{- end }}
      {{- if $v.data.volume.enabled }}
      - name: data
        persistentVolumeClaim:
          claimName: {{ include "gan-tuner.data" .root | quote }}
          readOnly: true
      {{- end }}
{{- end }}

{{/* The flag of one of an experiment's parameters. */}}
{{- define "gan-tuner.flag" -}}
{{ .flag | default (printf "--%s" .name) }}
{{- end }}

{{- define "gan-tuner.wait" -}}
f=/data/{{ .Values.data.dataset }}/images.npz; [ -f $f ] || echo "waiting for $f, which the preparation Job of release {{ .Release.Name }} creates"; until [ -f $f ]; do sleep 2; done
{{- end }}

{{- define "gan-tuner.preStop" -}}
for p in /proc/[0-9]*; do case "$(tr '\0' ' ' < $p/cmdline)" in "python -m trainer "*) kill -TERM "${p#/proc/}";; esac; done; sleep 5
{{- end }}
