"""Who has which address inside the cluster's network namespace.

All of it belongs to the namespace's loopback, except the addresses of pods that run as processes: those have a network
namespace each, as pods do. Nodes and load balancers use ranges reserved for documentation (RFC 5737, RFC 3849), so
nothing here can be mistaken for an address of the world outside.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

Dual = tuple[str, str]
"""An IPv4 and an IPv6 address of the same thing."""


@dataclass
class Range:
    """Addresses of both families, handed out in step."""

    v4: ipaddress.IPv4Network
    v6: ipaddress.IPv6Network
    _next: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def take(self) -> Dual:
        """The next pair that was not handed out before."""
        number = next(self._next)
        return str(self.v4[number]), str(self.v6[number])

    @property
    def cidrs(self) -> tuple[str, str]:
        """Both networks in CIDR notation."""
        return str(self.v4), str(self.v6)


def _range(v4: str, v6: str) -> Range:
    return Range(ipaddress.IPv4Network(v4), ipaddress.IPv6Network(v6))


PODS: Final = ("10.244.0.0/16", "fd00:10:244::/56")
"""What the cluster calls its pod range: the two ranges below."""
LOCAL_PODS: Final = ("10.244.0.0/17", "fd00:10:244::/64")
"""Pods that are tasks of the stand-in kubelet."""
PROCESS_PODS: Final = ("10.244.128.0/17", "fd00:10:244:1::/64")
"""Pods that are processes in namespaces of their own."""
SERVICES: Final = ("10.96.0.0/16", "fd00:10:96::/112")
NODES: Final = ("192.0.2.0/24", "2001:db8:0:1::/64")
LOAD_BALANCERS: Final = ("198.51.100.0/24", "2001:db8:0:2::/64")

LOOPBACK_OWNS: Final = (LOCAL_PODS, SERVICES, NODES, LOAD_BALANCERS)

NODE: Final[Dual] = ("192.0.2.1", "2001:db8:0:1::1")
"""The node that everything runs on: where connections to pods in namespaces of their own come from."""
API_SERVER: Final = NODE[0]
API_PORT: Final = 6443
API_SERVICE: Final = ("10.96.0.1", 443)
"""What every pod is told: the Service `kubernetes`."""


def local_pods() -> Range:
    """A fresh count over the pods that are tasks."""
    return _range(*LOCAL_PODS)


def process_pods() -> Range:
    """A fresh count over the pods that are processes."""
    return _range(*PROCESS_PODS)


def nodes() -> Range:
    """A fresh count over nodes. The first is the API server's."""
    return _range(*NODES)


def load_balancers() -> Range:
    """A fresh count over load balancers."""
    return _range(*LOAD_BALANCERS)
