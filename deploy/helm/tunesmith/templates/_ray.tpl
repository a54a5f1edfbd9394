{{- /* A pod of Ray's: a dict of the root, component, container, target, group and ports. */ -}}
{{- define "tunesmith.rayPod" -}}
{{- $root := .root -}}
{{- $group := .group -}}
metadata:
  labels:
    {{- include "tunesmith.labels" (list $root .component) | nindent 4 }}
spec:
  {{- include "tunesmith.podSecurity" $root | nindent 2 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $group.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $group.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $group.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $root.Values.ray.terminationGracePeriodSeconds }}
  containers:
    - name: {{ .container }}
      {{- include "tunesmith.image" (list $root .target) | nindent 6 }}
      env:
        - {name: RAY_AUTH_MODE, value: token}
        {{- include "tunesmith.rayToken" $root | nindent 8 }}
        # What a job that is asked to stop has, to save a checkpoint.
        - {name: RAY_JOB_STOP_WAIT_TIME_S, value: "30"}
        {{- include "tunesmith.artifactsEnvironment" $root | nindent 8 }}
        {{- include "tunesmith.plainEnvironment" $root | nindent 8 }}
      {{- with $root.Values.nodeSecrets }}
      envFrom:
        {{- range . }}
        - secretRef: {name: {{ . }}}
        {{- end }}
      {{- end }}
      ports:
        {{- toYaml .ports | nindent 8 }}
      {{- /* Ray's health asks for no token. KubeRay's own probes want wget in the image. */}}
      livenessProbe:
        httpGet: {path: /api/local_raylet_healthz, port: 52365}
        initialDelaySeconds: 30
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 120
      readinessProbe:
        {{- if eq .component "ray-head" }}
        httpGet: {path: /api/gcs_healthz, port: 8265}
        {{- else }}
        httpGet: {path: /api/local_raylet_healthz, port: 52365}
        {{- end }}
        initialDelaySeconds: 10
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 10
      resources:
        {{- range $kind := list "requests" "limits" }}
        {{ $kind }}:
          {{- toYaml (index $group.resources $kind) | nindent 10 }}
          {{- with $group.device }}
          {{ .resource }}: {{ .count }}
          {{- end }}
        {{- end }}
      securityContext:
        {{- include "tunesmith.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "tunesmith.mounts" $root | nindent 8 }}
        {{- if hasKey (index $group.resources "limits") "hugepages-2Mi" }}
        - {name: hugepages, mountPath: /hugepages-2Mi}
        {{- end }}
  volumes:
    {{- include "tunesmith.volumes" (list $root $root.Values.ray.scratchSize) | nindent 4 }}
    {{- if hasKey (index $group.resources "limits") "hugepages-2Mi" }}
    - name: hugepages
      emptyDir: {medium: HugePages-2Mi}
    {{- end }}
{{- end -}}

{{- /* What the autoscaler may add, which Ray does not tell before it is there. */ -}}
{{- define "tunesmith.nodeGroups" -}}
{{- if and .Values.ray.enabled .Values.ray.autoscaling.enabled }}
{{- $groups := dict }}
{{- range $name, $group := .Values.ray.workerGroups }}
{{- if $group.enabled }}
{{- $limits := $group.resources.limits }}
{{- $resources := dict "CPU" $limits.cpu "memory" $limits.memory }}
{{- with $group.device }}
{{- $_ := set $resources .ray .count }}
{{- end }}
{{- $_ := set $groups $name (dict "resources" $resources "most" $group.maxReplicas "least" $group.minReplicas) }}
{{- end }}
{{- end }}
- name: TUNESMITH_NODE_GROUPS
  value: {{ toJson $groups | squote }}
{{- end }}
{{- end -}}
