"""Listening sockets: who may come in, and as what.

In: a socket that the supervisor opened, and the `Listener` unit it belongs to. Out: client connections, plain or TLS.
May import: `proxy.http` and what is below it.
"""
