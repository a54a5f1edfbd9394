{{- /* What the standard "restricted" asks of a pod, and more: its user is the images'. */ -}}
{{- define "tunesmith.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "tunesmith.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tunesmith.artifactsEnvironment" -}}
{{- with .Values.artifacts }}
{{- if .url }}
- name: AWS_REGION
  value: {{ .region | quote }}
{{- if .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ .endpoint | quote }}
{{- end }}
{{- if .existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: access-key-id}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: secret-access-key}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tunesmith.plainEnvironment" -}}
{{- range $name, $value := .Values.environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "tunesmith.rayToken" -}}
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .Values.internalSecret }}, key: token}
{{- end -}}

{{- /* The variables of API and controller. */ -}}
{{- define "tunesmith.environment" -}}
- name: TUNESMITH_DATA
  value: /data
- name: TUNESMITH_SETTINGS
  value: /etc/tunesmith/settings.toml
- name: TUNESMITH_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}
{{- if .Values.artifacts.url }}
- name: TUNESMITH_ARTIFACTS_URL
  value: {{ .Values.artifacts.url | quote }}
{{- end }}
- name: RAY_ADDRESS
  value: {{ include "tunesmith.rayAddress" . }}
{{ include "tunesmith.rayToken" . }}
{{- include "tunesmith.artifactsEnvironment" . }}
{{- include "tunesmith.plainEnvironment" . }}
{{- end -}}

{{- /* The data folder and what else is written to: a list of the root and the room of the folder. */ -}}
{{- define "tunesmith.volumes" -}}
{{- $root := index . 0 -}}
- name: data
{{- if $root.Values.artifacts.url }}
  emptyDir:
    sizeLimit: {{ index . 1 }}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ $root.Values.data.existingClaim | default (printf "%s-data" (include "tunesmith.name" $root)) }}
{{- end }}
- name: tmp
  emptyDir: {}
- name: home
  emptyDir: {}
{{- if $root.Values.artifacts.url }}
- name: answers
  secret:
    secretName: {{ $root.Values.internalSecret }}
    defaultMode: 0440
    items:
      - {key: answers, path: answers.token}
{{- end }}
{{- end -}}

{{- define "tunesmith.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/user}
{{- if .Values.artifacts.url }}
# All replicas of the API and all nodes hold the same secret, though they share no folder.
- {name: answers, mountPath: /data/answers.token, subPath: answers.token, readOnly: true}
{{- end }}
{{- end -}}

{{- /* So that a node that is lost takes one replica with it: a list of the root and the component. */ -}}
{{- define "tunesmith.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tunesmith.selector" . | nindent 8 }}
{{- end -}}
