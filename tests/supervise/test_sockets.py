"""Listening sockets: opened once, kept by address, failures by name."""

import errno
import socket

import pytest

from ingressd.supervise.sockets import UNSENT_BYTES, Listeners, address, open_listener


@pytest.fixture
def listeners():
    made = Listeners()
    yield made
    made.close()


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connects(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), 1.0).close()
    except ConnectionRefusedError:
        return False
    return True


def test_an_unchanged_listener_keeps_its_socket(listeners, port):
    assert listeners.want((("http", "127.0.0.1", port),)).opened == ("http",)
    before = listeners.bound["http"].socket
    changes = listeners.want((("http", "127.0.0.1", port), ("more", "127.0.0.1", 0)))
    assert (changes.closed, changes.opened) == ((), ("more",))
    assert listeners.bound["http"].socket is before


def test_a_new_name_for_an_address_takes_the_socket_over_with_what_waits_in_it(listeners, port):
    listeners.want((("old", "127.0.0.1", port),))
    with socket.create_connection(("127.0.0.1", port)) as waiting:
        changes = listeners.want((("new", "127.0.0.1", port),))
        assert (changes.closed, changes.opened) == (("old",), ("new",))
        accepted, peer = listeners.bound["new"].socket.accept()
        assert peer == waiting.getsockname()
        accepted.close()


def test_a_listener_that_goes_is_closed(listeners, port):
    listeners.want((("http", "127.0.0.1", port),))
    assert connects(port)
    assert listeners.want(()).closed == ("http",)
    assert not connects(port)


def test_a_taken_address_is_said_once_and_bound_when_it_is_free(listeners, port):
    with socket.create_server(("127.0.0.1", port)):
        wanted = (("taken", "127.0.0.1", port), ("fine", "127.0.0.1", 0))
        changes = listeners.want(wanted)
        assert changes.opened == ("fine",)
        assert changes.failed == {"taken": f"cannot listen on 127.0.0.1:{port}: Address already in use"}
        assert listeners.retry().failed == {}
    assert listeners.retry().opened == ("taken",)
    assert listeners.failed == {}


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 80), ("not an address", 80), ("127.0.0.1", 70000)])
def test_an_address_that_cannot_be_bound_is_a_failure_by_name(listeners, host, port):
    assert list(listeners.want((("bad", host, port),)).failed) == ["bad"]


def test_the_unspecified_ipv6_address_takes_ipv4_too():
    with open_listener("::", 0) as listening:
        port = listening.getsockname()[1]
        assert connects(port) and connects(port, "::1")
        assert not listening.getblocking()


def test_a_kernel_without_ipv6_serves_the_unspecified_address_by_ipv4(monkeypatch):
    real = socket.socket

    def without_ipv6(family=socket.AF_INET, *rest, **named):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with open_listener("::", 0) as listening:
        assert listening.family == socket.AF_INET
        assert connects(listening.getsockname()[1])
    with pytest.raises(OSError, match="not supported"):
        open_listener("::1", 0)


def test_addresses_are_written_as_people_do():
    assert [address("::1", 80), address("127.0.0.1", 80)] == ["[::1]:80", "127.0.0.1:80"]


def test_connections_inherit_how_little_the_kernel_holds_of_them():
    with open_listener("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
