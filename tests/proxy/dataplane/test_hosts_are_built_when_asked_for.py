"""A host is compiled when the first request for it comes, and nobody can tell, even while a delta is applied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec
import pytest
import uvloop
from stage.played import PlayedTransport

from ingressd.model.codec import Delta, encode_unit
from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import (
    Certificate,
    Endpoint,
    Endpoints,
    ProcessPolicy,
    Route,
    RoutePolicy,
    Unit,
    Upstream,
    UpstreamTls,
    VirtualHost,
    key_of,
)
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.dataplane.dataplane import Dataplane
from ingressd.proxy.runtime.runtime import CompiledRoute
from ingressd.proxy.upstream.connection import UpstreamConnection

ORIGIN = Origin("Ingress", "default", "one")


def host(name: str, upstream: str, policy: str = "") -> VirtualHost:
    return VirtualHost(name, (Route(origin=ORIGIN, path_type="Prefix", path="/", upstream=upstream, policy=policy),))


def application(name: str, address: str = "127.0.0.1") -> tuple[Unit, ...]:
    upstream = f"default/{name}:80"
    return host(f"{name}.test", upstream), Upstream(upstream, ORIGIN), Endpoints(upstream, (Endpoint(address, 80),))


class Watched(Dataplane):
    """A data plane that lets `between` act at every pause of an apply; its clock makes every step one."""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self._now = 0.0
        self.between = between
        self.version = 0
        super().__init__(
            loop=asyncio.get_running_loop(),
            shared=SharedTable.create(1),
            worker=0,
            counters=WorkerCounters(),
            log=logging.getLogger("test"),
            clock=self._tell,
            wall=lambda: 0.0,
        )

    def _tell(self) -> float:
        self._now += 1.0
        return self._now

    async def take(
        self,
        *units: Unit,
        policies: Mapping[str, RoutePolicy] | None = None,
        removed: Iterable[str] = (),
        base: int | None = None,
    ) -> dict[str, str]:
        """Apply units as the next version. A policy does not know its name."""
        changed = {f"policy/{name}": msgspec.Raw(encode_unit(policy)) for name, policy in (policies or {}).items()}
        changed.update((key_of(unit), msgspec.Raw(encode_unit(unit))) for unit in units)
        applying = asyncio.ensure_future(
            self.apply(
                Delta(
                    version=self.version + 1,
                    base=self.version if base is None else base,
                    changed=changed,
                    removed=tuple(removed),
                )
            )
        )
        while not applying.done():
            self.between()
            await asyncio.sleep(0)
        self.version += 1
        return applying.result()

    def route(self, name: str) -> CompiledRoute | None:
        """What a request for the host would take."""
        found: CompiledRoute | None = self._worker.current.table.match(name.encode(), b"/")
        return found

    def address(self, name: str) -> str | None:
        """Where the one endpoint of a host's route is."""
        route = self.route(name)
        if route is None or route.group is None:
            return None
        return ",".join(route.group.endpoints)

    @property
    def built(self) -> set[str]:
        """The hosts that are compiled."""
        return set(self._builder._uses)


def played(scene: Callable[[Watched], Awaitable[None]]) -> None:
    async def run() -> None:
        dataplane = Watched()
        try:
            await scene(dataplane)
        finally:
            dataplane.close()

    uvloop.run(run())


def test_only_hosts_with_requests_are_compiled() -> None:
    async def scene(dataplane: Watched) -> None:
        await dataplane.take(ProcessPolicy(), *application("a"), *application("b"), base=0)
        assert dataplane.built == set()
        assert dataplane._builder.groups == {}
        route = dataplane.route("a.test")
        assert route is not None
        assert dataplane.route("a.test") is route
        assert dataplane.address("a.test") == "127.0.0.1:80"
        assert dataplane.built == {"a.test"}
        assert list(dataplane._builder.groups) == ["default/a:80"]
        assert dataplane.route("c.test") is None

    played(scene)


@pytest.mark.parametrize("asked", [False, True])
def test_changes_reach_hosts_with_requests_and_without(asked: bool) -> None:
    async def scene(dataplane: Watched) -> None:
        await dataplane.take(*application("a"), *application("b"), base=0)
        if asked:
            assert dataplane.address("a.test")
        await dataplane.take(Endpoints("default/a:80", (Endpoint("127.0.0.2", 80),)))
        assert dataplane.address("a.test") == "127.0.0.2:80"
        await dataplane.take(host("a.test", "default/b:80", "slow"), policies={"slow": RoutePolicy(read_timeout_s=7.0)})
        assert dataplane.address("a.test") == "127.0.0.1:80"
        assert dataplane.route("a.test").read_timeout_s == 7.0
        await dataplane.take(policies={"slow": RoutePolicy(read_timeout_s=8.0)})
        assert dataplane.route("a.test").read_timeout_s == 8.0
        await dataplane.take(removed=["upstream/default/b:80", "endpoints/default/b:80"])
        assert dataplane.address("a.test") is None
        await dataplane.take(*application("b", "127.0.0.3")[1:])
        assert dataplane.address("a.test") == "127.0.0.3:80"
        await dataplane.take(removed=["host/a.test"])
        assert dataplane.route("a.test") is None
        assert "a.test" not in dataplane.built

    played(scene)


def test_wildcards_and_the_catch_all_are_built_too() -> None:
    async def scene(dataplane: Watched) -> None:
        both = [Upstream("/u", ORIGIN), Endpoints("/u", (Endpoint("127.0.0.9", 80),))]
        await dataplane.take(host("*.wild.test", "/u"), host("", "/u"), *both, base=0)
        assert dataplane.address("x.wild.test") == "127.0.0.9:80"
        assert dataplane.built == {"*.wild.test"}
        assert dataplane.address("else.test") == "127.0.0.9:80"
        assert dataplane.built == {"*.wild.test", ""}

    played(scene)


def test_a_host_that_misses_asks_the_catch_all_for_its_default() -> None:
    async def scene(dataplane: Watched) -> None:
        default = Route(origin=ORIGIN, path_type="Prefix", path="/", upstream="/u")
        narrow = Route(origin=ORIGIN, path_type="Exact", path="/only", upstream="/u")
        await dataplane.take(VirtualHost("a.test", (narrow,)), VirtualHost("", (), default), base=0)
        assert dataplane.route("a.test") is not None
        assert dataplane.built == {"a.test", ""}

    played(scene)


def test_requests_during_an_apply_see_the_old_version_or_the_new_one() -> None:
    """The host, its policy and its endpoints change together: no request may find a mixture, whenever it comes."""

    async def scene(dataplane: Watched) -> None:
        hosts = [f"h{number}" for number in range(12)]

        def version(number: int) -> list[Unit]:
            units: list[Unit] = []
            for name in hosts:
                upstream = f"default/{name}-{number}:80"
                units += [host(f"{name}.test", upstream, f"p{number}"), Upstream(upstream, ORIGIN)]
                units.append(Endpoints(upstream, (Endpoint(f"127.0.0.{number}", 80),)))
            return units

        def policy(number: int) -> dict[str, RoutePolicy]:
            return {f"p{number}": RoutePolicy(read_timeout_s=float(number))}

        gone = [key_of(unit) for unit in version(1) if not isinstance(unit, VirtualHost)]
        await dataplane.take(*version(1), policies=policy(1), base=0)
        turns = 0
        seen: list[tuple[str | None, float, str | None]] = []

        def ask() -> None:
            nonlocal turns
            turns += 1
            name = hosts[turns % len(hosts)]
            route = dataplane.route(f"{name}.test")
            assert route is not None
            seen.append((dataplane.address(f"{name}.test"), route.read_timeout_s, route.failed_closed))

        dataplane.between = ask
        await dataplane.take(*version(2), policies=policy(2), removed=[*gone, "policy/p1"])
        old, new = ("127.0.0.1:80", 1.0, None), ("127.0.0.2:80", 2.0, None)
        assert turns > 20, "the apply never paused"
        assert set(seen) <= {old, new}
        assert old in seen
        dataplane.between = lambda: None
        for name in hosts:
            ask_after = dataplane.route(f"{name}.test")
            assert ask_after is not None
            assert (dataplane.address(f"{name}.test"), ask_after.read_timeout_s) == new[:2]

    played(scene)


@pytest.mark.parametrize("turn", range(22))
def test_a_host_built_at_any_moment_of_an_apply_has_the_new_policy_and_endpoints_behind_it(turn: int) -> None:
    async def scene(dataplane: Watched) -> None:
        _, *upstream = application("a")
        before = {"slow": RoutePolicy(read_timeout_s=1.0)}
        await dataplane.take(host("a.test", "default/a:80", "slow"), *upstream, policies=before, base=0)
        turns = 0

        def ask() -> None:
            nonlocal turns
            if turns == turn:
                assert dataplane.address("a.test") == "127.0.0.1:80"
            turns += 1

        dataplane.between = ask
        others = [unit for number in range(3) for unit in application(f"o{number}")]
        _, _, endpoints = application("a", "127.0.0.5")
        await dataplane.take(endpoints, *others, policies={"slow": RoutePolicy(read_timeout_s=2.0)})
        assert turns >= 20
        dataplane.between = lambda: None
        assert dataplane.address("a.test") == "127.0.0.5:80"
        route = dataplane.route("a.test")
        assert route is not None
        assert route.read_timeout_s == 2.0

    played(scene)


def test_endpoints_of_an_upstream_that_is_opened_during_an_apply_are_the_new_ones() -> None:
    async def scene(dataplane: Watched) -> None:
        await dataplane.take(*application("a"), base=0)
        dataplane.between = lambda: dataplane.route("a.test")
        await dataplane.take(*application("a", "127.0.0.5"), *application("b"))
        assert dataplane.address("a.test") == "127.0.0.5:80"

    played(scene)


def test_a_refused_upstream_leaves_its_last_good_version() -> None:
    async def scene(dataplane: Watched) -> None:
        bad = Upstream("default/a:80", ORIGIN, tls=UpstreamTls(verify=True, ca_pem=b"no certificate"))
        good = application("a")[1]
        await dataplane.take(*application("a"), base=0)
        refused = await dataplane.take(bad)
        assert list(refused) == ["upstream/default/a:80"]
        assert not dataplane.holds("upstream/default/a:80", encode_unit(bad))
        route = dataplane.route("a.test")
        assert route is not None
        assert route.group is not None
        assert msgspec.structs.replace(route.group.unit, origin=ORIGIN) == good

    played(scene)


def test_what_serves_is_known_by_its_bytes() -> None:
    async def scene(dataplane: Watched) -> None:
        units = [ProcessPolicy(), *application("a")]
        await dataplane.take(*units, base=0)
        assert set(dataplane.all_keys()) == {key_of(unit) for unit in units}
        for unit in units:
            assert dataplane.holds(key_of(unit), encode_unit(unit))
        assert not dataplane.holds("process", encode_unit(ProcessPolicy(keep_alive_s=1.0)))
        assert not dataplane.holds("host/a.test", encode_unit(host("a.test", "/u")))
        assert not dataplane.holds("host/none.test", b"")

    played(scene)


def test_an_apply_that_fails_leaves_what_serves_and_doubts_what_it_touched() -> None:
    async def scene(dataplane: Watched) -> None:
        await dataplane.take(*application("a"), *application("b"), base=0)
        dataplane._builder.check = dataplane._builder.check.__class__
        with pytest.raises(TypeError):
            await dataplane.take(host("a.test", "default/b:80"))
        assert dataplane.address("a.test") == "127.0.0.1:80"
        assert list(dataplane._builder.groups) == ["default/a:80"]
        assert not dataplane.holds("host/a.test", encode_unit(application("a")[0]))
        assert dataplane.holds("host/b.test", encode_unit(application("b")[0]))

    played(scene)


def test_a_host_that_cannot_be_compiled_after_all_answers_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(dataplane: Watched) -> None:
        await dataplane.take(*application("a"), *application("b"), base=0)
        compile_route = dataplane._builder._compile

        def broken(units: object, unit: VirtualHost, group_of: object) -> object:
            if unit.host == "a.test":
                raise RuntimeError("broken")
            return compile_route(units, unit, group_of)

        monkeypatch.setattr(dataplane._builder, "_compile", broken)
        route = dataplane.route("a.test")
        assert route is not None
        assert (route.group, route.status) == (None, 503)
        assert dataplane.address("b.test") == "127.0.0.1:80"

    played(scene)


def test_idle_connections_of_all_endpoints_share_the_limit_of_the_worker() -> None:
    async def scene(dataplane: Watched) -> None:
        names = [f"a{number}" for number in range(6)]
        units = [unit for name in names for unit in application(name)]
        await dataplane.take(ProcessPolicy(upstream_keepalive_connections=4), *units, base=0)
        connections = []
        for at, name in enumerate(names):
            assert dataplane.route(f"{name}.test") is not None
            (endpoint,) = dataplane._builder.group(f"default/{name}:80").endpoints.values()
            connection = UpstreamConnection(
                memoryview(bytearray(64)),
                dataplane._worker.outbox,
                limits=dataplane._worker.current.response_limits,
                server_name="",
                opened_s=0.0,
            )
            connection.connection_made(PlayedTransport())
            connections.append(connection)
            endpoint.pool.release(connection, float(at))
        assert [connection.transport.ended for connection in connections] == ["aborted"] * 2 + [""] * 4
        assert dataplane._builder.room.count == 4

    played(scene)


def test_secrets_of_certificates_are_not_kept_twice() -> None:
    async def scene(dataplane: Watched) -> None:
        key = b"-----BEGIN PRIVATE KEY-----" + b"k" * 100
        certificate = Certificate("default/c", ORIGIN, b"cert", PrivateBytes(key), (), 0.0)
        refused = await dataplane.take(certificate, base=0)
        assert list(refused) == [key_of(certificate)]
        held = [value for value in dataplane._units._held.values() if isinstance(value, bytes)]
        assert not any(b"PRIVATE KEY" in value for value in held)

    played(scene)
