"""What happens at ten times the peak, and near the limit of memory: ingressd in a control group, an open-loop load.

In: a build of ingressd, a writable cgroup. Out: printed figures. May import the rest of `loadtest`.
"""
