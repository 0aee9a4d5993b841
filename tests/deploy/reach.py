"""NetworkPolicies as a function: may this Pod be reached, or reach, by what the policies say?

https://kubernetes.io/docs/concepts/services-networking/network-policies/: a direction in which some policy selects the
Pod is closed except for what any of them allows; a direction that none selects is open. Named ports are not understood.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Rule = dict[str, Any]
Policy = dict[str, Any]


class Peer(NamedTuple):
    """The other side: a Pod by its labels and its namespace's name, or an address outside the cluster."""

    labels: Mapping[str, str] = MappingProxyType({})
    namespace: str = ""
    address: str = ""


def allowed(
    policies: list[Policy], direction: str, labels: Mapping[str, str], *, peer: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """May traffic go between a Pod with `labels` in the policies' own namespace and `peer`? `direction` is Ingress or
    Egress; `port` is that of whoever is reached."""
    selecting = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], labels)
    ]
    if not selecting:
        return True
    side = "from" if direction == "Ingress" else "to"
    rules = [rule for spec in selecting for rule in spec.get(direction.lower(), ())]
    return any(_peer_matches(rule.get(side), peer) and _port_matches(rule, port, protocol) for rule in rules)


def _selects(selector: Rule, labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    return selector.get("matchLabels", {}).items() <= labels.items()


def _port_matches(rule: Rule, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    if not ports:
        return True
    return any(one.get("protocol", "TCP") == protocol and one.get("port", port) == port for one in ports)


def _peer_matches(sides: list[Rule] | None, peer: Peer) -> bool:
    if not sides:
        return True
    return any(_side_matches(side, peer) for side in sides)


def _side_matches(side: Rule, peer: Peer) -> bool:
    block = side.get("ipBlock")
    if block is not None:
        if not peer.address:
            return False
        address = ipaddress.ip_address(peer.address)
        inside = [ipaddress.ip_network(cidr) for cidr in (block["cidr"], *block.get("except", ()))]
        return address in inside[0] and not any(address in excepted for excepted in inside[1:])
    if peer.address:
        return False
    where = side.get("namespaceSelector")
    # Without a selector of namespaces a peer is in the policy's own.
    here = peer.namespace == "ingressd" if where is None else _selects(where, namespace_labels(peer.namespace))
    return here and _selects(side.get("podSelector", {}), peer.labels)


def namespace_labels(name: str) -> dict[str, str]:
    """What Kubernetes itself puts on every namespace."""
    return {"kubernetes.io/metadata.name": name}
