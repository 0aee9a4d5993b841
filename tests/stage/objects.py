"""Kubernetes objects that many tests need, as YAML."""

ONE_SERVICE = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: ingressd}}
spec: {{controller: ingressd.dev/ingress-controller}}
---
apiVersion: v1
kind: Service
metadata: {{name: up, namespace: default}}
spec: {{ports: [{{port: 80, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: up-1, namespace: default, labels: {{kubernetes.io/service-name: up}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{{addresses: ["{host}"], conditions: {{ready: true}}}}]
"""
"""Our class, and Service `up` with one endpoint at `host` and `port`: `.format` it."""
