"""A change of one host must touch no other, and an old table must go on working for exchanges that hold it."""

from ingressd.model.problem import Origin
from ingressd.model.units import Route, VirtualHost
from ingressd.proxy.routing.table import HostRoutes, RouteTable, compile_host


def host(name: str, upstream: str) -> HostRoutes[str | None]:
    route = Route(origin=Origin("Ingress", "d", "i"), path_type="Prefix", path="/", upstream=upstream)
    return compile_host(VirtualHost(host=name, routes=(route,)), lambda r: r.upstream)


NAMES = ("a.b", "*.b", "")


def table() -> RouteTable[str | None]:
    empty: RouteTable[str | None] = RouteTable.empty()
    return empty.with_changes({name: host(name, f"old {name}") for name in NAMES})


def answers(t: RouteTable[str | None]) -> list[str | None]:
    return [t.match(b"a.b", b"/"), t.match(b"x.b", b"/"), t.match(b"zzz", b"/")]


def test_a_changed_host_is_the_only_one_that_changes() -> None:
    before = table()
    for index, name in enumerate(NAMES):
        after = before.with_changes({name: host(name, "new")})
        expected = answers(before)
        expected[index] = "new"
        assert answers(after) == expected
        assert answers(before) == ["old a.b", "old *.b", "old "]


def test_a_removed_host_falls_to_the_next_more_general_one() -> None:
    t = table().with_changes({}, removed=["a.b"])
    assert answers(t) == ["old *.b", "old *.b", "old "]
    t = t.with_changes({}, removed=["*.b"])
    assert answers(t) == ["old ", "old ", "old "]
    t = t.with_changes({}, removed=["", "never.there", "*.never.there"])
    assert answers(t) == [None, None, None]
    assert len(t) == 0


def test_a_host_both_removed_and_changed_is_there() -> None:
    assert table().with_changes({"a.b": host("a.b", "new")}, removed=["a.b"]).match(b"a.b", b"/") == "new"


def test_knows_tells_own_misses_from_strangers() -> None:
    t = table()
    assert t.knows(b"a.b") and t.knows(b"x.b")
    assert not t.knows(b"zzz") and not t.knows(b"x.y.b")
