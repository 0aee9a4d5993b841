"""Filters: one feature a file, compiled for each route when a snapshot is applied, run on the path of an exchange.

In: policies and a route (compile time); a request head, a response head, body bytes (exchange). Out: an answer of our
own, changed heads, transformed bodies. The order of execution is the order of `registry.FILTERS`.
May import: `protocol`, `model`, `observe`, `settings`. No I/O, no clock.
"""
