"""Slim frozen views of the objects we read: Kubernetes' and the static ones of the configuration file.

In: JSON bytes, or plain values out of YAML. Out: frozen structs, keys and events; a refused object is an error that
names the path inside it. May import: `model`, `settings`, msgspec. No I/O.
"""
