"""The admission socket outlives the controller that asked for it."""

import contextlib
import socket

import pytest

from ingressd.ipc import orders
from ingressd.ipc.orders import Order
from ingressd.supervise.lent import LentSocket


@pytest.fixture
def lent():
    made = LentSocket()
    yield made
    made.close()


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def webhook(port):
    return Order(orders.WEBHOOK, host="127.0.0.1", port=port)


def test_a_new_controller_gets_the_same_socket_with_what_waits_in_it(lent, port):
    order, first = lent.want(webhook(port))
    assert order == Order(orders.ADMISSION, host="127.0.0.1", port=port)
    with socket.create_connection(("127.0.0.1", port)) as waiting:
        _, second = lent.want(webhook(port))
        assert second is first
        accepted, peer = second.accept()
        with accepted:
            assert peer == waiting.getsockname()


def test_none_wanted_closes_it_and_answers_nothing(lent, port):
    _, first = lent.want(webhook(port))
    assert lent.want(webhook(0)) is None
    assert first.fileno() < 0
    assert not lent.failed


def test_another_address_is_another_socket(lent, port):
    _, first = lent.want(webhook(port))
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    _, second = lent.want(webhook(other))
    assert first.fileno() < 0
    assert second.getsockname()[1] == other


def test_a_taken_address_is_said_and_bound_when_it_is_free(lent, port):
    with socket.create_server(("127.0.0.1", port)):
        order, passed = lent.want(webhook(port))
        assert (order.op, passed, lent.failed) == (orders.ADMISSION, None, True)
        assert "cannot listen on 127.0.0.1" in order.detail
        assert lent.retry() is None
    order, passed = lent.retry()
    assert (order.detail, passed.getsockname()[1], lent.failed) == ("", port, False)
    assert lent.retry() is None
