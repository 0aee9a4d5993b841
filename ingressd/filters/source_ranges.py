"""Who may ask, by address: an allowlist and a denylist of networks (nginx `ngx_http_access_module`)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address, ip_network
from typing import Any, Final

from ingressd.filters.base import AnnotationFault, Answer, FilterSpec, ParsedAnnotations, RequestView
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.settings.values import source_ranges

ALLOW: Final = "allowlist-source-range"
ALIAS: Final = "whitelist-source-range"
DENY: Final = "denylist-source-range"
_VERDICTS: Final = 4096


class Ranges:
    """A set of networks that is asked in logarithmic time, however many there are."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, networks: tuple[str, ...]) -> None:
        parsed = [ip_network(network) for network in networks]
        self._starts: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}
        for version in (4, 6):
            # Sorted, and none inside another.
            merged: Iterable[Any] = collapse_addresses(one for one in parsed if one.version == version)
            pairs = [(int(one.network_address), int(one.broadcast_address)) for one in merged]
            self._starts[version] = [start for start, _ in pairs]
            self._ends[version] = [end for _, end in pairs]

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        number = int(address)
        at = bisect_right(self._starts[address.version], number) - 1
        return at >= 0 and number <= self._ends[address.version][at]


class SourceRanges:
    """Answers 403 to a client on the denylist, or not on the allowlist where there is one.

    The address is `remote_addr`: the peer's, or the one that trusted proxies name; IPv4 in IPv6 counts as IPv4.
    Verdicts are remembered by address, for all routes with the same lists.
    """

    __slots__ = ("_allowed", "_denied", "_verdicts")

    def __init__(self, allowed: tuple[str, ...], denied: tuple[str, ...]) -> None:
        self._allowed = Ranges(allowed) if allowed else None
        self._denied = Ranges(denied)
        self._verdicts: dict[str, str] = {}

    def on_request(self, request: RequestView) -> Answer | None:
        """Let the request through or refuse it."""
        client_ip = request.client_ip
        verdict = self._verdicts.get(client_ip)
        if verdict is None:
            if len(self._verdicts) >= _VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[client_ip] = self._judge(client_ip)
        return Answer(403, reason=verdict) if verdict else None

    def _judge(self, client_ip: str) -> str:
        """Why this client is refused, "" if it is not. The denylist comes first, as in ingress-nginx's template."""
        try:
            address = ip_address(client_ip)
        except ValueError:
            return f"{client_ip or 'a client without an address'} is in no network"
        if address in self._denied:
            return f"client address is on {DENY}"
        if self._allowed is not None and address not in self._allowed:
            return f"client address is not on {ALLOW}"
        return ""


def _parse(annotations: Mapping[str, str]) -> ParsedAnnotations:
    """The alias counts only where the main name is absent (ingress-nginx, annotations/parser). Each list replaces the
    process-wide one of its kind."""
    route: dict[str, Any] = {}
    faults: list[AnnotationFault] = []
    for names, field in (((ALLOW, ALIAS), "allowed_sources"), ((DENY,), "denied_sources")):
        name = next((name for name in names if name in annotations), None)
        if name is None:
            continue
        try:
            route[field] = source_ranges(annotations[name])
            if not route[field]:
                raise ValueError("expected addresses or networks, got nothing")
        except ValueError as error:
            faults.append(AnnotationFault(name, str(error), closes=True))
    return ParsedAnnotations(route, tuple(faults))


# Objects with the same lists share one: many are written by one template.
_shared = lru_cache(maxsize=1024)(SourceRanges)


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> SourceRanges | None:
    if route is None or not (policy.allowed_sources or policy.denied_sources):
        return None
    return _shared(policy.allowed_sources, policy.denied_sources)


SPEC: Final = FilterSpec(
    name="source_ranges",
    settings=(
        (ALIAS, "Networks and addresses that may ask, separated by commas; all others get 403. Default: everybody."),
        (ALLOW, "The same under its newer name, which wins."),
        (DENY, "Networks and addresses that may not ask: they get 403. Default: none."),
    ),
    annotations=(
        (ALLOW, "Networks and addresses that may ask, separated by commas; all others get 403."),
        (ALIAS, "The same under its older name, which counts where the newer is absent."),
        (DENY, "Networks and addresses that may not ask: they get 403."),
    ),
    parse_annotations=_parse,
    compile_request=_compile,
)
