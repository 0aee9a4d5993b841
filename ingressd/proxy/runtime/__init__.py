"""What a worker serves by: the compiled snapshot, and what all its connections share.

In: units. Out: `Runtime`, one immutable value that an exchange takes once and keeps, and `Worker`, which holds the
current one. May import: `proxy.routing`, `proxy.upstream`, `proxy.tls`, `proxy.drain`, `filters` and what is below.
"""
