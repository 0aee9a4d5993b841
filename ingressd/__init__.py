"""ingressd: a Kubernetes ingress controller and L7 reverse proxy.

The rooms and who may import whom are in `docs/architecture.md`; `lint-imports` holds the law.
"""
