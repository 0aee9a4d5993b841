"""Bytes to events and back, sans-I/O: HTTP/1 heads and bodies, the TLS ClientHello, the PROXY protocol.

In: bytes as they came from a peer, and limits. Out: frozen-shaped heads, decoded body bytes, canonical bytes to send,
or an error that carries the status to answer with. May import: the standard library only (no asyncio, socket, ssl).
"""
