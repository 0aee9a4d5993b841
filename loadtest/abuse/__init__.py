"""Hostile clients, exhausted descriptors, killed processes and changing certificates, against bars.

`python -m loadtest.abuse [SCENARIO…]` runs them, prints one table and ends with 1 when a bar is missed. ingressd has
CPU 0, everybody else CPU 1; abusers run with a lower priority than the canary, whose times are what is judged.
"""
