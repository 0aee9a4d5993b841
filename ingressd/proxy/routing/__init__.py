"""Which route takes a request: hosts, then path elements.

In: `VirtualHost` units and the bytes of a request's host and path. Out: the leaf that was made for the winning route,
and, for `explain`, why every other candidate lost. Pure: no I/O, no clock. May import: `model`.
"""
