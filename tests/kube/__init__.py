"""A Kubernetes cluster on one machine: real etcd, API server and controllers, and stand-ins for the rest.

In: the binaries of `build.py` and a network namespace of its own (`namespace.py`). Out: `cluster.Cluster`, which runs
the control plane, a stand-in for scheduler, kubelets and kube-proxy, and a load balancer for Services that ask for one.
`python -m kube` (with `tests` on PYTHONPATH) starts it by hand. May import `stage`; nothing of the product.
"""
