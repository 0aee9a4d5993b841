"""Upstreams as they are: endpoints, balancers, pools, connections.

In: the units `Upstream` and `Endpoints` (what should be). Out: candidates in order, and pooled HTTP/1.1 connections
that tell a handler what an endpoint answered. State is keyed by upstream name and address, never by an index.
May import: `proxy.tls`, `proxy.drain`, `ipc`, `protocol`, `model`, `observe`, `settings`.
"""
