"""Why each other route lost, for `explain`: the rules of `table` once more, one sentence for every candidate."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingressd.model.units import Route, VirtualHost


class Candidate(msgspec.Struct, frozen=True):
    """A route that was considered. `lost` says why it did not win and is "" for the winner."""

    host: str
    route: Route
    default: bool = False
    """Whether the route is the default of its host and not one of its rules."""
    lost: str = ""


def candidates(hosts: Mapping[str, VirtualHost], host: bytes, path: bytes) -> list[Candidate]:
    """Every route of every host that could take `host`, best first; the first one wins if its `lost` is "".

    `hosts` is keyed by `VirtualHost.host`; `host` and `path` are normalised. Agrees with `RouteTable.match`.
    """
    names = _names(host.decode("utf-8", "surrogateescape"))
    chosen = next((name for name in names if name in hosts), None)
    found: list[Candidate] = []
    winner: Candidate | None = None
    for name in names:
        vhost = hosts.get(name)
        if vhost is None:
            continue
        if name != chosen:
            reason = f"host {_spell(chosen or '')} is more specific and is chosen before any path"
            found += [Candidate(name, route, lost=reason) for route in vhost.routes]
            continue
        of_host = _of_host(vhost, path)
        found += of_host
        winner = next((candidate for candidate in of_host if not candidate.lost), None)
    found += _defaults(hosts, chosen, winner=winner)
    # sorted is stable, so the winner goes first and the others keep the order of precedence.
    return sorted(found, key=lambda candidate: candidate.lost != "")


def _names(host: str) -> list[str]:
    """The names under which a host may be found, most specific first."""
    _, dot, parent = host.partition(".")
    return list(dict.fromkeys([host, f"*.{parent}" if dot else "", ""]))


def _spell(host: str) -> str:
    return host or "(any)"


def _elements(path: str) -> list[str]:
    stripped = path.strip("/")
    return stripped.split("/") if stripped else []


def _matches(route: Route, path: str) -> bool:
    if route.path_type == "Exact":
        return route.path == path
    wanted = _elements(route.path)
    # The trailing slash of a request is an element of its own that no Prefix can ask for.
    return path[1:].split("/")[: len(wanted)] == wanted


def _rank(route: Route) -> tuple[bool, int]:
    return (route.path_type == "Exact", len(_elements(route.path)))


def _of_host(vhost: VirtualHost, path_bytes: bytes) -> list[Candidate]:
    path = path_bytes.decode("utf-8", "surrogateescape")
    best: Route | None = None
    for route in vhost.routes:
        if _matches(route, path) and (best is None or _rank(route) > _rank(best)):
            best = route
    return [Candidate(vhost.host, route, lost=_why(route, best, path=path)) for route in vhost.routes]


def _why(route: Route, best: Route | None, *, path: str) -> str:
    if route is best:
        return ""
    if not _matches(route, path):
        if route.path_type == "Exact":
            return f"Exact {route.path} is not {path}"
        return f"Prefix {route.path} is no prefix of {path} by path element"
    assert best is not None
    if best.path_type == "Exact" and route.path_type == "Prefix":
        return f"Exact {best.path} beats Prefix"
    if _rank(best) > _rank(route):
        return f"Prefix {best.path} is longer"
    return f"the same path of {best.origin} comes first"


def _defaults(hosts: Mapping[str, VirtualHost], chosen: str | None, *, winner: Candidate | None) -> list[Candidate]:
    found: list[Candidate] = []
    for name in dict.fromkeys([chosen, ""]):
        vhost = hosts.get(name) if name is not None else None
        if vhost is None or vhost.default is None:
            continue
        lost = "a rule took the request" if winner and not winner.default else ""
        if winner and winner.default:
            lost = f"host {_spell(winner.host)} has a default of its own"
        candidate = Candidate(vhost.host, vhost.default, default=True, lost=lost)
        found.append(candidate)
        winner = winner or candidate
    return found
