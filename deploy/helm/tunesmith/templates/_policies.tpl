{{- define "tunesmith.names" -}}
- to:
    - namespaceSelector: {}
      podSelector:
        matchLabels: {k8s-app: kube-dns}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}
{{- define "tunesmith.outside" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except:
          {{- toYaml .except | nindent 10 }}
  ports:
    - {port: {{ .port }}, protocol: TCP}
{{- end }}
{{- define "tunesmith.byReference" -}}
- ports:
    - {port: {{ .port }}, protocol: TCP}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
