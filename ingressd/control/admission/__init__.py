"""The validating webhook: an HTTPS listener of its own that is asked before an Ingress is stored.

In: AdmissionReviews (admission.k8s.io/v1), a socket that the supervisor keeps, and a check of one Ingress against what
is live. Out: allowed, or denied with every error, and warnings. It decodes and looks up; it translates, renders and
runs nothing, and holds no objects. May import: `pipeline`, `translate`, `objects`, `model`, `ipc`, `observe`, aiohttp.
"""
