"""ingress-nginx's annotations: which there are, what becomes of each, and what an Ingress is told about its own.

In: a mapping of annotations. Out: problems, and whether the object is refused, left out or fails closed.
"""
