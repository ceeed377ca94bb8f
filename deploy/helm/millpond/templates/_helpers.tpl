{{- define "millpond.name" -}}
{{- if contains "millpond" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-millpond" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "millpond.labels" -}}
app.kubernetes.io/name: millpond
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "millpond.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "millpond.secretName" -}}
{{- .Values.cluster.existingSecret | default (printf "%s-cluster" (include "millpond.name" .)) -}}
{{- end }}

{{- define "millpond.config" -}}
{{- $cluster := dict "secretFile" "/run/secrets/millpond/cluster-secret" "placement" .Values.cluster.placement -}}
{{- if eq .Values.cluster.placement "sharded" }}{{ $_ := set $cluster "copies" (int .Values.cluster.copies) }}{{ end -}}
{{- $redis := dict "url" (printf "redis://%s-redis:6379" (include "millpond.name" .)) -}}
{{- if not .Values.redis.enabled }}
{{- $_ := set $redis "url" (required "redis.url is needed where redis.enabled is false" .Values.redis.url) }}
{{- end -}}
{{- if or .Values.redis.enabled .Values.redis.usePassword }}
{{- $_ := set $redis "passwordFile" "/run/secrets/millpond/redis-password" }}
{{- end -}}
{{- merge (dict "cluster" $cluster "redis" $redis) .Values.config | toYaml -}}
{{- end }}

{{/* What all pods have in common. */}}
{{- define "millpond.podDefaults" -}}
serviceAccountName: {{ include "millpond.name" . }}
automountServiceAccountToken: false
# Otherwise a Service would put MILLPOND_… into the environment, where configuration is read from.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "millpond.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- with .Values.seLinuxOptions }}
seLinuxOptions: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The mirror itself, but for its name, ports and resources. */}}
{{- define "millpond.container" -}}
image: {{ include "millpond.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/millpond/millpond.yaml]
env:
  - name: POD_IP
    valueFrom: { fieldRef: { fieldPath: status.podIP } }
  - name: MILLPOND_ADVERTISE
    value: {{ printf "%s://%s:5000" (include "millpond.scheme" .) .Values.cluster.advertiseHost | quote }}
  - name: MILLPOND_LISTEN
    value: ":5000"
  - name: MILLPOND_CACHE_DIR
    value: /var/lib/millpond
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - { name: cache, mountPath: /var/lib/millpond }
  - { name: config, mountPath: /etc/millpond, readOnly: true }
  - { name: cluster, mountPath: /run/secrets/millpond, readOnly: true }
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
# An old cache may take a while to open.
startupProbe:
  {{- include "millpond.probe" (list . "/healthz") | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 60
# Slow to give up: a restart ends transfers, and brings nothing to a node that is merely busy.
livenessProbe:
  {{- include "millpond.probe" (list . "/healthz") | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- include "millpond.probe" (list . "/readyz") | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 3
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "millpond.scheme" -}}
{{- if .Values.config.tls }}https{{ else }}http{{ end -}}
{{- end }}

{{/* The kubelet checks no certificate and has none to show: where the mirror asks for one, a connection is all it gets. */}}
{{- define "millpond.probe" -}}
{{- $root := index . 0 -}}
{{- if dig "tls" "clientCaFile" "" $root.Values.config -}}
tcpSocket: { port: http }
{{- else if $root.Values.config.tls -}}
httpGet: { path: {{ index . 1 }}, port: http, scheme: HTTPS }
{{- else -}}
httpGet: { path: {{ index . 1 }}, port: http }
{{- end -}}
{{- end }}

{{/* Where the pods of a workload may run. */}}
{{- define "millpond.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "millpond.volumes" -}}
- name: config
  configMap: { name: {{ include "millpond.name" . }}-config }
- name: cluster
  secret:
    secretName: {{ include "millpond.secretName" . }}
    # 0440; not every parser takes that for octal.
    defaultMode: 288
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "millpond.podAnnotations" -}}
checksum/config: {{ include "millpond.config" . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}
