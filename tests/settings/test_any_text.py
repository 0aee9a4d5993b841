"""Whatever a file holds, reading it ends in values or problems, never in another exception."""

import random

from ingressd.control.sources.manifests import ManifestReader
from ingressd.settings.load import parse_config

CONFIG = """
listeners: [{name: http, address: "127.0.0.1:80", protocol: HTTP}]
settings: {ssl-redirect: false}
routes:
  - {host: a.b, path: /api, upstream: u}
upstreams:
  u: {endpoints: ["127.0.0.1:1", {address: "a:2", weight: 2}], tls: {verify: false}}
tls: [{hosts: [a.b], certFile: a, keyFile: b}]
"""
MANIFEST = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, annotations: {x: "y"}, creationTimestamp: 2024-01-01T00:00:00Z}
spec: {rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s}}}]}}]}
---
apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {k: dg==}}]
"""
PIECES = [
    *"{}[]:,&*!|>'\"%#-? \n\tab0.\x00\x85\u2028é~",
    *("null", "- ", "? ", "<<: *a", "&a ", "!!binary ", "1e999", ".inf", "0x", "---\n", "...\n", "%YAML 1.1\n"),
]


def damaged(text, dice):
    chars = list(text)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(chars) + 1)
        if dice.random() < 0.6:
            chars[at:at] = dice.choice(PIECES)
        else:
            del chars[at : at + dice.randint(1, 8)]
    return "".join(chars).encode()


def test_damaged_files():
    dice = random.Random(7)
    for _ in range(400):
        loaded = parse_config(damaged(CONFIG, dice), path="/c.yaml", environ={}, flags={}, workers=1)
        assert loaded.config is not None or loaded.problems
        for name in ("a.yaml", "a.json"):
            contents = ManifestReader().read(name, damaged(MANIFEST, dice))
            assert contents.objects or contents.problems or not contents.broken
