"""The source of objects out of a cluster: list and watch of our own, and the client of the API server.

In: a `KubernetesConfig` and the objects that translation wants by name. Out: batches of keyed object events, problems,
and how far behind each kind may be. kubernetes-asyncio gives configuration, authentication and transport, and is loaded
only when a cluster is configured. May import: `store`, `objects`, `model`, `settings`, asyncio, aiohttp.
"""
