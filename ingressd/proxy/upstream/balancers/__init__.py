"""Balancers: which endpoint of an upstream takes the next exchange. One file a balancer, one table (`table.py`).

In: the endpoints' states, a key to hash, the time. Out: endpoints in order of preference.
May import: `proxy.upstream.endpoint`, `proxy.upstream.outlier`, `model`, `observe`. No I/O; time and randomness are
handed in.
"""
