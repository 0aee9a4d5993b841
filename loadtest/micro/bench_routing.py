"""Routing: a warm match, the two normal forms, and one changed host among 10,000.

Run: python loadtest/micro/bench_routing.py
Goals: a match 0.5 us, `with_changes` 1 ms.
"""

from __future__ import annotations

import statistics
import timeit

from ingressd.model.problem import Origin
from ingressd.model.units import Route, VirtualHost
from ingressd.proxy.routing.normalise import normalise_host, normalise_path
from ingressd.proxy.routing.table import RouteTable, compile_host

ORIGIN = Origin("Ingress", "default", "web")
PATHS = ("/", "/api", "/api/v1", "/api/v1/users", "/static", "/login", "/admin", "/healthz")


def vhost(name: str) -> VirtualHost:
    """A host with eight Prefix rules and one Exact."""
    routes = [Route(origin=ORIGIN, path_type="Prefix", path=path, upstream="d/s:80") for path in PATHS]
    routes.append(Route(origin=ORIGIN, path_type="Exact", path="/exact", upstream="d/s:80"))
    return VirtualHost(host=name, routes=tuple(routes))


def per_call_us(statement: str, names: dict[str, object]) -> float:
    """Best of seven runs of 100,000 calls, in microseconds a call."""
    return min(timeit.repeat(statement, globals=names, number=100_000, repeat=7)) * 10


def main() -> None:
    """Print one line a measurement."""
    hosts = {f"host-{i}.example.com": compile_host(vhost(f"host-{i}.example.com"), lambda r: r) for i in range(10_000)}
    hosts["*.wild.example.com"] = compile_host(vhost("*.wild.example.com"), lambda r: r)
    empty: RouteTable[Route] = RouteTable.empty()
    table = empty.with_changes(hosts)
    names = {"table": table, "normalise_path": normalise_path, "normalise_host": normalise_host}
    for what, statement in {
        "match, exact host, 3 elements": 'table.match(b"host-77.example.com", b"/api/v1/users/17")',
        "match, exact host, root": 'table.match(b"host-77.example.com", b"/index.html")',
        "match, exact path": 'table.match(b"host-77.example.com", b"/exact")',
        "match, wildcard host": 'table.match(b"a.wild.example.com", b"/static/app.js")',
        "normalise_host, nothing to do": 'normalise_host(b"host-77.example.com")',
        "normalise_host, port": 'normalise_host(b"host-77.example.com:8080")',
        "normalise_path, nothing to do": 'normalise_path(b"/api/v1/users/17")',
        "normalise_path, escapes and dots": 'normalise_path(b"/api/%76%31/../v1//users/17")',
    }.items():
        print(f"{what:36} {per_call_us(statement, names):8.3f} us")
    changed = {"host-77.example.com": hosts["host-77.example.com"]}
    took = timeit.repeat(lambda: table.with_changes(changed), number=1, repeat=201)
    print(f"{'with_changes, 1 of 10,000 hosts':36} {statistics.median(took) * 1e6:8.1f} us")


if __name__ == "__main__":
    main()
