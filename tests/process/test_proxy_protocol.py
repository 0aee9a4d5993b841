"""The PROXY protocol before TLS, in the access log, in the choice of an endpoint, switched on and off while serving."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from stage.certificates import selfsigned
from stage.echo import EchoLoop, raise_echoes
from stage.ports import spelled
from stage.running import PATIENCE_S, Ingressd, running
from stage.secure import connect_tls, send_plain
from stage.wire import Reply, ask, client_tls, request_bytes

pytestmark = pytest.mark.process

SETTINGS = {"ssl-redirect": "false", "use-proxy-protocol": "true"}


def config(folder: Path, *addresses: tuple[str, int], **options: object) -> dict[str, object]:
    pair = selfsigned("a.test")
    (folder / "a.crt").write_bytes(pair.cert)
    (folder / "a.key").write_bytes(pair.key)
    return {
        "routes": [{"host": "a.test", "path": "/", "upstream": "up"}],
        "upstreams": {"up": {"endpoints": [spelled(address) for address in addresses]}},
        "tls": [{"hosts": ["a.test"], "certFile": "a.crt", "keyFile": "a.key"}],
        "settings": SETTINGS,
        **options,
    }


def header(client: str, *, port: int = 443) -> bytes:
    return f"PROXY TCP4 {client} 192.168.0.22 56324 {port}\r\n".encode()


def over_tls(ingressd: Ingressd, before: bytes, *, pause_s: float = 0.0) -> bytes:
    """A request over TLS behind a header that is sent byte by byte."""
    with connect_tls(
        ingressd.https, client_tls(), server_name="a.test", timeout_s=PATIENCE_S, handshake=False
    ) as secure:
        for byte in before:
            send_plain(secure, bytes([byte]))
            time.sleep(pause_s)
        secure.do_handshake()
        secure.sendall(request_bytes("/over-tls", host="a.test"))
        received = b""
        while data := secure.recv(65536):
            received += data
        return received


def test_the_header_comes_before_the_client_hello(tmp_path: Path, echo_loop: EchoLoop) -> None:
    """As test/e2e/settings/proxy_protocol.go of ingress-nginx asks, and the log says the same."""
    (echo,) = raise_echoes(echo_loop, "up")
    with running(tmp_path, **config(tmp_path, echo.address)) as ingressd:
        assert over_tls(ingressd, header("192.168.0.11", port=1234), pause_s=0.001).startswith(b"HTTP/1.1 200 ")
        fields = dict(echo.seen[0].fields)
        assert fields["X-Forwarded-For"] == fields["X-Real-IP"] == "192.168.0.11"
        assert (fields["X-Forwarded-Port"], fields["X-Forwarded-Proto"]) == ("1234", "https")
        (line,) = ingressd.access_lines(path="/over-tls")
        assert line["remote_addr"] == "192.168.0.11"
    echo.close()


def test_without_a_header_the_tls_port_says_nothing(tmp_path: Path, echo_loop: EchoLoop) -> None:
    (echo,) = raise_echoes(echo_loop, "up")
    with running(tmp_path, **config(tmp_path, echo.address)) as ingressd:
        with pytest.raises(OSError):
            over_tls(ingressd, b"")
        assert not echo.seen
        assert "Traceback" not in ingressd.output()
    echo.close()


def test_the_client_that_the_header_names_keeps_its_endpoint(tmp_path: Path, echo_loop: EchoLoop) -> None:
    """Balancing by client address looks at the client, not at the load balancer in front."""
    echoes = raise_echoes(echo_loop, "up", 4)
    settings = {**SETTINGS, "upstream-hash-by": "$remote_addr"}
    addresses = [echo.address for echo in echoes]
    with running(tmp_path, **config(tmp_path, *addresses, settings=settings)) as ingressd:
        for number in range(16):
            raw = header(f"10.1.2.{number}", port=80) + request_bytes(f"/{number}", host="a.test")
            for _ in range(3):
                assert ask(ingressd.http, raw=raw).status == 200
    served = {
        number: {echo.endpoint for echo in echoes for seen in echo.seen if seen.path == f"/{number}"}
        for number in range(16)
    }
    assert all(len(endpoints) == 1 for endpoints in served.values()), served
    assert len(set.union(*served.values())) > 1, "all of them at one endpoint"
    for echo in echoes:
        echo.close()


def test_it_is_switched_on_and_off_without_dropping_a_connection(tmp_path: Path, echo_loop: EchoLoop) -> None:
    (echo,) = raise_echoes(echo_loop, "up")
    plain = {"ssl-redirect": "false"}

    def asked(ingressd: Ingressd, *, before: bytes = b"") -> Reply:
        return ask(ingressd.http, raw=before + request_bytes("/", host="a.test"))

    with (
        running(tmp_path, **config(tmp_path, echo.address, settings=plain)) as ingressd,
        socket.create_connection(ingressd.http, PATIENCE_S) as kept,
    ):
        kept.sendall(request_bytes("/", host="a.test", keep_alive=True))
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert asked(ingressd, before=header("9.9.9.9")).status == 400
        ingressd.change(settings=SETTINGS, live=lambda: asked(ingressd, before=header("9.9.9.9")).status == 200)
        assert asked(ingressd).status == 0
        kept.sendall(request_bytes("/", host="a.test", keep_alive=True))
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        ingressd.change(settings=plain, live=lambda: asked(ingressd).status == 200)
        assert asked(ingressd, before=header("9.9.9.9")).status == 400
    echo.close()
