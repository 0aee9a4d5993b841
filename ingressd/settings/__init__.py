"""What the operator wants, read once: the configuration file, flags, environment, ingress-nginx's keys and flags.

In: text and mappings (nobody else reads the environment). Out: frozen plain values and problems with positions.
May import: the standard library, msgspec, PyYAML; nothing of ours.
"""
