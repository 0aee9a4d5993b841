import msgspec
import pytest

from ingressd.filters.registry import parse_annotations

NAME = "connection-proxy-header"


@pytest.mark.parametrize("value", ["close", "keep-alive"])
def test_the_field_is_the_annotation_and_not_the_clients(stage, value):
    stage.policy = msgspec.structs.replace(stage.policy, **parse_annotations({NAME: value}).route)
    view = stage.request("Host: shop.example", "Connection: x-hop", "X-Hop: 1", "X-Own: 2", scheme=b"https")
    assert stage.on_request(view) is None
    assert view.head.fields == [b"X-Own: 2", b"Connection: " + value.encode()]


def test_without_it_nothing_is_added(stage):
    view = stage.request(scheme=b"https")
    stage.on_request(view)
    assert view.head.fields == []


def test_no_upgrade_passes_beside_it():
    assert parse_annotations({NAME: "close"}).route["upgrades"] == frozenset()


@pytest.mark.parametrize("value", ["", "Close", "close, x", "a;}", "upgrade", "close\r\nX: y"])
def test_anything_else_has_no_effect_and_is_said(value):
    parsed = parse_annotations({NAME: value})
    assert parsed.route == {}
    assert [(fault.name, fault.closes) for fault in parsed.faults] == [(NAME, False)]
