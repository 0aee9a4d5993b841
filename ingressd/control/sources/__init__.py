"""Configuration file, manifests, certificate files and names: watched, read, decoded.

In: files and the resolver. Out: batches of keyed object events and the problems each source knows of.
May import: `store`, `objects`, `model`, `settings`, asyncio, aiodns, PyYAML.
"""
