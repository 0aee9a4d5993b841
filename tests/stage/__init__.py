"""What tests against a real process stand on: a running `ingressd`, upstreams, a client, certificates.

Only the outside is used: `run --config FILE`, the configuration's keys, `/readyz`, signals, the access-log file.
Imports nothing of ingressd.
"""
