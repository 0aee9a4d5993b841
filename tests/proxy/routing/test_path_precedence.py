"""KEP-1453's table and the contract's "Matching", on the compiled table and on `candidates` at once."""

import pytest

from ingressd.model.problem import Origin
from ingressd.model.units import Route, VirtualHost
from ingressd.proxy.routing.candidates import candidates
from ingressd.proxy.routing.table import RouteTable, compile_host

ORIGIN = Origin("Ingress", "default", "web")


def route(spec: str) -> Route:
    """A route from "Prefix /a" or "Exact /a"; its upstream is the spec itself."""
    path_type, path = spec.split(" ")
    return Route(origin=ORIGIN, path_type=path_type, path=path, upstream=spec)


def vhost(host: str, *specs: str, default: str | None = None) -> VirtualHost:
    fallback = Route(origin=ORIGIN, path_type="Prefix", path="/", upstream=default) if default else None
    return VirtualHost(host=host, routes=tuple(map(route, specs)), default=fallback)


def match(vhosts: list[VirtualHost], host: str, path: str) -> str | None:
    table: RouteTable[str | None] = RouteTable.empty()
    table = table.with_changes({v.host: compile_host(v, lambda r: r.upstream) for v in vhosts})
    won = table.match(host.encode(), path.encode())
    listed = candidates({v.host: v for v in vhosts}, host.encode(), path.encode())
    assert [c.route.upstream for c in listed if not c.lost] == ([won] if won else []), "explain disagrees with routing"
    return won


@pytest.mark.parametrize(
    ("rules", "path", "wins"),
    [
        (["Prefix /"], "/", "Prefix /"),
        (["Prefix /"], "/anything/at/all", "Prefix /"),
        (["Exact /foo"], "/foo", "Exact /foo"),
        (["Exact /foo"], "/bar", None),
        (["Exact /foo"], "/foo/", None),
        (["Exact /foo/"], "/foo", None),
        (["Exact /foo/"], "/foo/", "Exact /foo/"),
        (["Prefix /foo"], "/foo", "Prefix /foo"),
        (["Prefix /foo"], "/foo/", "Prefix /foo"),
        (["Prefix /foo/"], "/foo", "Prefix /foo/"),
        (["Prefix /foo/"], "/foo/", "Prefix /foo/"),
        (["Prefix /aaa/bb"], "/aaa/bbb", None),
        (["Prefix /aaa/bbb"], "/aaa/bbb", "Prefix /aaa/bbb"),
        (["Prefix /aaa/bbb/"], "/aaa/bbb", "Prefix /aaa/bbb/"),
        (["Prefix /aaa/bbb"], "/aaa/bbb/ccc", "Prefix /aaa/bbb"),
        (["Prefix /aaa/bbb"], "/aaa/bbbxyz", None),
        (["Prefix /", "Prefix /aaa"], "/aaa/ccc", "Prefix /aaa"),
        (["Prefix /", "Prefix /aaa"], "/ccc", "Prefix /"),
        (["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"], "/aaa/bbb", "Prefix /aaa/bbb"),
        (["Prefix /aaa/bbb", "Prefix /", "Prefix /aaa"], "/aaa/bb", "Prefix /aaa"),
        (["Prefix /foo", "Exact /foo"], "/foo", "Exact /foo"),
        (["Prefix /foo", "Exact /foo"], "/foo/", "Prefix /foo"),
        (["Prefix /foo/", "Exact /foo/"], "/foo/", "Exact /foo/"),
        (["Exact /", "Prefix /"], "/", "Exact /"),
        (["Exact /", "Prefix /"], "/x", "Prefix /"),
        (["Prefix /Foo"], "/foo", None),
        (["Prefix /a/b/c/d"], "/a/b/c", None),
        (["Prefix /a", "Prefix /a/b/c"], "/a/b/x/c", "Prefix /a"),
    ],
)
def test_kep_1453_table(rules: list[str], path: str, wins: str | None) -> None:
    assert match([vhost("foo.bar", *rules)], "foo.bar", path) == wins
    assert match([vhost("foo.bar", *reversed(rules))], "foo.bar", path) == wins


def test_first_of_two_equal_paths_wins() -> None:
    first = Route(origin=ORIGIN, path_type="Prefix", path="/a", upstream="first")
    second = Route(origin=ORIGIN, path_type="Prefix", path="/a/", upstream="second")
    assert match([VirtualHost(host="h", routes=(first, second))], "h", "/a") == "first"


def test_exact_host_beats_wildcard_beats_catch_all() -> None:
    hosts = [vhost("a.foo.com", "Exact /1"), vhost("*.foo.com", "Prefix /2"), vhost("", "Prefix /")]
    assert match(hosts, "a.foo.com", "/1") == "Exact /1"
    assert match(hosts, "b.foo.com", "/2") == "Prefix /2"
    assert match(hosts, "other", "/1") == "Prefix /"


def test_a_miss_on_the_host_tries_no_other_host() -> None:
    hosts = [vhost("a.foo.com", "Prefix /only"), vhost("*.foo.com", "Prefix /wild"), vhost("", "Prefix /")]
    assert match(hosts, "a.foo.com", "/other") is None
    assert match(hosts, "a.foo.com", "/wild") is None
    assert match(hosts, "b.foo.com", "/only") is None


def test_wildcard_takes_exactly_one_label() -> None:
    hosts = [vhost("*.foo.com", "Prefix /")]
    assert match(hosts, "x.foo.com", "/") == "Prefix /"
    assert match(hosts, "a.b.foo.com", "/") is None
    assert match(hosts, "foo.com", "/") is None
    assert match(hosts, "m", "/") is None


def test_default_of_the_host_takes_what_no_rule_takes() -> None:
    hosts = [vhost("foo.bar", "Prefix /a", default="own"), vhost("other.bar", "Prefix /a")]
    assert match(hosts, "foo.bar", "/zzz") == "own"
    assert match(hosts, "other.bar", "/zzz") is None


def test_default_of_the_catch_all_is_everybodys_after_their_own() -> None:
    hosts = [
        vhost("foo.bar", "Prefix /a", default="own"),
        vhost("*.bar", "Prefix /a"),
        vhost("", "Exact /x", default="all"),
    ]
    assert match(hosts, "foo.bar", "/zzz") == "own"
    assert match(hosts, "b.bar", "/zzz") == "all"
    assert match(hosts, "unknown", "/zzz") == "all"
    assert match(hosts, "b.bar", "/x") == "all", "the rules of the catch-all are not for hosts that have their own"
    assert match(hosts, "unknown", "/x") == "Exact /x"


def test_every_loser_says_why() -> None:
    hosts = [vhost("a.foo.com", "Prefix /", "Prefix /a", "Exact /a", "Exact /b"), vhost("", "Prefix /", default="all")]
    listed = candidates({v.host: v for v in hosts}, b"a.foo.com", b"/a")
    assert [(c.route.upstream, c.lost) for c in listed] == [
        ("Exact /a", ""),
        ("Prefix /", "Exact /a beats Prefix"),
        ("Prefix /a", "Exact /a beats Prefix"),
        ("Exact /b", "Exact /b is not /a"),
        ("Prefix /", "host a.foo.com is more specific and is chosen before any path"),
        ("all", "a rule took the request"),
    ]
