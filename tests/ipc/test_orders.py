"""Orders: one a datagram, with the descriptors that belong to it."""

import os
import socket

import pytest

from ingressd.ipc import orders
from ingressd.ipc.orders import Order, OrderError, decode_order, encode_order, pair, receive_order, send_order


@pytest.fixture
def ends():
    one, two = pair()
    yield one, two
    one.close()
    two.close()


def test_an_order_and_its_socket_arrive_together(ends):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        send_order(ends[0], Order(orders.LISTEN, name="http"), (listening.fileno(),))
        send_order(ends[0], Order(orders.DRAIN))
        order, (descriptor,) = receive_order(ends[1])
        with socket.socket(fileno=descriptor) as received:
            assert (order.op, order.name) == (orders.LISTEN, "http")
            assert received.getsockname() == listening.getsockname()
            assert not os.get_inheritable(received.fileno())
    assert receive_order(ends[1]) == (Order(orders.DRAIN), [])
    with pytest.raises(BlockingIOError):
        receive_order(ends[1])


def test_the_end_of_the_peer_is_none(ends):
    ends[0].close()
    assert receive_order(ends[1]) is None


@pytest.mark.parametrize(
    "order",
    [
        Order(orders.LISTENERS, listeners=(("http", "::", 8080), ("https", "127.0.0.1", 8443))),
        Order(orders.POLICY, grace_s=1.5, timeout_s=240.0),
        Order(orders.GONE, worker=0, number=3, version=7, unit=2, detail="signal 9"),
    ],
)
def test_orders_come_back_as_they_were(order):
    assert decode_order(encode_order(order)) == order


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"op":"x","strange":1}', b"{}", b'{"op":"x","listeners":[1]}'])
def test_what_is_no_order_is_refused(junk):
    with pytest.raises(OrderError):
        decode_order(junk)


def test_an_order_that_would_not_fit_is_refused_by_the_sender(ends):
    many = tuple((f"listener-{number}", "127.0.0.1", number) for number in range(10000))
    with pytest.raises(OrderError, match="above the limit"):
        send_order(ends[0], Order(orders.LISTENERS, listeners=many))
