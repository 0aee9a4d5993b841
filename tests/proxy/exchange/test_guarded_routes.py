"""A route whose object asks for client certificates is served on no host that asks for none, or for others."""

from __future__ import annotations

import msgspec
import pytest
import uvloop
from stage.played import Stage, make_stage, play

from ingressd.model.codec import Delta
from ingressd.model.problem import Origin
from ingressd.model.units import (
    ClientAuthority,
    ClientCertificates,
    ProcessPolicy,
    Route,
    RoutePolicy,
    Unit,
    VirtualHost,
)
from ingressd.proxy.tls.libssl import LibSsl

ORIGIN = Origin("Ingress", "default", "web")
PLAIN = RoutePolicy(ssl_redirect=False)
VERIFIES = pytest.mark.skipif(LibSsl.open() is None, reason="this ssl cannot be made to verify clients")


def guarded_route(path: str = "/") -> Route:
    return Route(origin=ORIGIN, path_type="Prefix", path=path, upstream="/u", policy="guarded")


def wish(host: str, verify: str, authority: str = "", **more) -> ClientCertificates:
    return ClientCertificates(host=host, origin=ORIGIN, verify=verify, authority=authority, **more)


def status_of(host: str, *units: Unit, path: str = "/x") -> int:
    """What plain HTTP is answered: no policy here insists on TLS."""
    found = []

    def scene(stage: Stage) -> None:
        stage.pooled()
        client = stage.client()
        client.data_received(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path.encode(), host.encode()))
        answer = stage.sent(client)
        found.append(int(answer[9:12]) if answer else 200)  # Without an answer of ours it waits for the endpoint.

    guarded = msgspec.structs.replace(PLAIN, client_certificates=True)
    play(scene, more=units, policy=PLAIN, policies={"guarded": guarded})
    return found[0]


def test_on_a_host_whose_policy_is_off() -> None:
    """An Ingress that was there first may switch verification off for the host."""
    host = VirtualHost("a.test", (guarded_route(),))
    assert status_of("a.test", host, wish("a.test", "off")) == 403


def test_as_the_default_of_a_host_whose_policy_is_off() -> None:
    """Whoever has a host of his own does not get through it to everybody's default backend."""
    everybody = VirtualHost("", (), default=guarded_route())
    host = VirtualHost("a.test", (msgspec.structs.replace(guarded_route("/own"), policy=""),))
    units = (everybody, host, wish("", "optional", "ca"), ClientAuthority("ca", b""), wish("a.test", "off"))
    assert status_of("a.test", *units) == 403
    assert status_of("a.test", *units, path="/own") == 200


@VERIFIES
def test_as_the_default_of_a_host_that_asks_for_other_certificates() -> None:
    everybody = VirtualHost("", (), default=guarded_route())
    host = VirtualHost("a.test", (guarded_route("/own"),))
    authorities = (ClientAuthority("ca", b"one"), ClientAuthority("other", b"another"))
    units = (everybody, host, *authorities, wish("", "optional", "ca"))
    assert status_of("a.test", *units, wish("a.test", "optional", "other")) == 403
    assert status_of("a.test", *units, wish("a.test", "optional", "other"), path="/own") == 200
    assert status_of("a.test", *units, wish("a.test", "optional", "ca")) == 200
    assert status_of("nobody.test", *units, wish("a.test", "optional", "other")) == 200


@VERIFIES
def test_as_the_default_of_a_host_that_wants_another_subject() -> None:
    everybody = VirtualHost("", (), default=guarded_route())
    host = VirtualHost("a.test", (guarded_route("/own"),))
    units = (everybody, host, ClientAuthority("ca", b"one"), wish("", "optional", "ca", match_cn="CN=admin"))
    assert status_of("a.test", *units, wish("a.test", "optional", "ca")) == 403


def test_without_any_policy_of_a_host() -> None:
    """Its unit may be in quarantine: the mark of the route is there still."""
    assert status_of("a.test", VirtualHost("a.test", (guarded_route(),))) == 403


@VERIFIES
def test_who_a_client_is_cannot_be_said_with_underscores_either() -> None:
    """CGI and WSGI make one variable of `ssl_client_verify` and `ssl-client-verify`."""

    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(
            b"GET / HTTP/1.1\r\nHost: a.test\r\nssl_client_verify: SUCCESS\r\nX_Forwarded-Client_Cert: me\r\n"
            b"X_Other: kept\r\n\r\n"
        )
        sent = stage.sent(upstream)
        assert b"X_Other: kept" in sent
        assert b"ssl_client" not in sent
        assert b"Client_Cert" not in sent

    units = (ClientAuthority("ca", b"one"), wish("a.test", "optional", "ca"))
    play(scene, more=units, process=ProcessPolicy(underscores_in_headers=True))


def test_without_the_policy_of_all_routes() -> None:
    """It may hold the list of those who may come; routes that have no other must not be open while it is away."""

    async def scene() -> bytes:
        stage = await make_stage()
        try:
            await stage.dataplane.apply(Delta(version=2, base=1, changed={}, removed=("policy/",)))
            stage.pooled()
            client = stage.client()
            client.data_received(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            client.transport.ended = ""
            return stage.sent(client)
        finally:
            for client in list(stage.worker.clients):
                client.connection_lost(None)
            stage.dataplane.close()

    assert uvloop.run(scene()).startswith(b"HTTP/1.1 503 ")
