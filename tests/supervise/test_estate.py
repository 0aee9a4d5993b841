"""What is handed on arrives whole, as descriptors of its own, or not at all."""

import os
import socket

import pytest

from ingressd.ipc import orders
from ingressd.ipc.orders import MAX_DESCRIPTORS, Order, send_order
from ingressd.supervise.estate import ADMIN, ADMISSION, LISTENERS, VARIABLE, EstateError, bequeath, claim
from ingressd.supervise.sockets import Bound


@pytest.fixture
def channel():
    ours, theirs = orders.pair()
    yield ours, {VARIABLE: str(theirs.detach()), "HOME": "/"}
    ours.close()


def bound(port: int) -> Bound:
    """A socket that says to be at this port."""
    return Bound("127.0.0.1", port, socket.create_server(("127.0.0.1", 0)))


def give(ours: socket.socket, mine: dict[str, dict[str, Bound]]) -> None:
    tickets = os.memfd_create("tickets")
    os.pwrite(tickets, b"secret", 0)
    bequeath(ours, mine, tickets)
    os.close(tickets)
    for sockets in mine.values():
        for one in sockets.values():
            one.socket.close()


def test_sockets_come_by_kind_and_address_and_the_variable_goes(channel):
    ours, environ = channel
    mine = {LISTENERS: {"http": bound(80), "https": bound(443)}, ADMIN: {"a": bound(1)}, ADMISSION: {"b": bound(2)}}
    names = {(kind, one.host, one.port): one.socket.getsockname() for kind in mine for one in mine[kind].values()}
    give(ours, mine)
    estate = claim(environ)
    assert environ == {"HOME": "/"}
    taken = {kind: estate.take(kind) for kind in (LISTENERS, ADMIN, ADMISSION)}
    assert {(kind, *key): one.getsockname() for kind, some in taken.items() for key, one in some.items()} == names
    assert os.pread(estate.tickets, 10, 0) == b"secret"
    for some in taken.values():
        for one in some.values():
            assert not one.get_inheritable()
            one.close()
    estate.close()


def test_more_listeners_than_fit_in_one_message(channel):
    ours, environ = channel
    give(ours, {LISTENERS: {f"l{number}": bound(number) for number in range(2 * MAX_DESCRIPTORS + 3)}})
    estate = claim(environ)
    taken = estate.take(LISTENERS)
    assert {port for _, port in taken} == set(range(2 * MAX_DESCRIPTORS + 3))
    for one in taken.values():
        one.close()
    estate.close()


def test_what_an_older_version_does_not_know_is_left(channel):
    ours, environ = channel
    with socket.socket() as unknown:
        send_order(ours, Order(orders.INHERIT, name="udp", listeners=(("u", "::", 53),)), (unknown.fileno(),))
        send_order(ours, Order(orders.INHERIT, name=ADMIN, listeners=()), (unknown.fileno(),))
    send_order(ours, Order(orders.BEGIN))
    before = len(os.listdir("/proc/self/fd"))
    estate = claim(environ)
    assert (estate.take(ADMIN), estate.take(LISTENERS), estate.tickets) == ({}, {}, None)
    assert len(os.listdir("/proc/self/fd")) == before
    estate.close()


def test_nobody_hands_over():
    environ = {"HOME": "/"}
    assert claim(environ) is None


def test_whoever_hands_over_is_gone_in_the_middle(channel):
    ours, environ = channel
    mine = bound(80)
    with mine.socket:
        order = Order(orders.INHERIT, name=LISTENERS, listeners=(("http", "127.0.0.1", 80),))
        send_order(ours, order, (mine.socket.fileno(),))
    ours.close()
    with pytest.raises(EstateError, match="is gone"):
        claim(environ)


def test_silence_ends(channel):
    _, environ = channel
    with pytest.raises(EstateError, match="timed out"):
        claim(environ, within_s=0.01)


@pytest.mark.parametrize("number", ["", "x", "123456"])
def test_a_variable_that_names_no_socket(number):
    with pytest.raises(EstateError, match=VARIABLE):
        claim({VARIABLE: number})
