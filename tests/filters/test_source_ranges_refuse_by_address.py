"""Allowlist and denylist of networks."""

import msgspec
import pytest

from ingressd.filters.registry import ANNOTATIONS, compile_filters, parse_annotations
from ingressd.filters.source_ranges import Ranges
from ingressd.model.units import RoutePolicy

replace = msgspec.structs.replace


def ask(stage, client_ip, *, allow=(), deny=(), **view):
    stage.policy = RoutePolicy(allowed_sources=allow, denied_sources=deny)
    request = stage.request(scheme=b"https", **view)
    request.client_ip = client_ip
    answer = stage.on_request(request)
    return None if answer is None else answer.status


@pytest.mark.parametrize("client_ip", ["18.0.0.0", "18.255.255.255", "56.1.2.3", "2001:db8::1", "192.0.2.1"])
def test_who_is_on_the_allowlist_passes(stage, client_ip):
    assert ask(stage, client_ip, allow=("18.0.0.0/8", "56.0.0.0/8", "2001:db8::/32", "192.0.2.1/32")) is None


@pytest.mark.parametrize(
    "client_ip", ["17.255.255.255", "19.0.0.0", "8.8.8.8", "2001:db9::1", "::", "0.0.0.0", "::12.0.0.1", ""]
)
def test_who_is_not_gets_403(stage, client_ip):
    assert ask(stage, client_ip, allow=("18.0.0.0/8", "56.0.0.0/8", "2001:db8::/32")) == 403


def test_who_is_on_the_denylist_gets_403(stage):
    assert ask(stage, "10.1.2.3", deny=("10.0.0.0/8",)) == 403
    assert ask(stage, "11.1.2.3", deny=("10.0.0.0/8",)) is None
    assert ask(stage, "2001:db8::1", deny=("10.0.0.0/8",)) is None


def test_the_denylist_goes_before_the_allowlist(stage):
    lists = {"allow": ("10.0.0.0/8",), "deny": ("10.1.0.0/16",)}
    assert ask(stage, "10.1.2.3", **lists) == 403
    assert ask(stage, "10.2.2.3", **lists) is None


def test_everybody_is_everybody(stage):
    for client_ip in ("0.0.0.0", "255.255.255.255", "::", "ffff::1"):
        assert ask(stage, client_ip, allow=("0.0.0.0/0", "::/0")) is None
    assert ask(stage, "::1", allow=("0.0.0.0/0",)) == 403


def test_a_client_without_an_address_is_refused(stage):
    assert ask(stage, "unix:", deny=("10.0.0.0/8",)) == 403


def test_the_redirect_to_https_comes_first_as_in_nginx(stage):
    stage.policy = RoutePolicy(allowed_sources=("18.0.0.0/8",))
    assert stage.on_request(stage.request()).status == 308


def test_verdicts_are_remembered_by_address_and_not_for_ever(stage):
    allow = ("10.0.0.0/9",)
    for number in range(10_000):
        address = f"10.{number % 256}.{number // 256}.1"
        assert ask(stage, address, allow=allow) == (None if number % 256 < 128 else 403)
    (compiled,) = compile_filters(stage.process, stage.policy, stage.route)[0][1:]
    assert len(compiled._verdicts) <= 4096


def test_a_route_without_lists_has_no_such_filter(stage):
    stage.policy = RoutePolicy(ssl_redirect=False)
    assert compile_filters(stage.process, stage.policy, stage.route)[0] == ()
    assert compile_filters(stage.process, RoutePolicy(allowed_sources=("::1/128",)), None)[0] == ()


def test_ranges_agree_with_a_search_through_all_of_them():
    from ipaddress import ip_address, ip_network

    networks = tuple(f"10.{a}.{b}.0/{size}" for a in range(0, 40, 3) for b in (0, 64) for size in (24, 30))
    networks += ("10.5.0.0/16", "0.0.0.0/7", "2001:db8::/33", "2001:db8:8000::/33", "fe80::/10")
    ranges = Ranges(networks)
    parsed = [ip_network(one) for one in networks]
    probes = [f"10.{a}.{b}.{c}" for a in range(42) for b in (0, 1, 64) for c in (0, 3, 4, 255)]
    probes += ["1.255.255.255", "2.0.0.0", "2001:db8:ffff::", "2001:db9::", "2001:db7:ffff::", "febf::", "fec0::"]
    for probe in map(ip_address, probes):
        assert (probe in ranges) == any(probe in one for one in parsed), probe


# --- annotations ------------------------------------------------------------------------------------------------------


def test_annotations_set_the_lists():
    parsed = parse_annotations({"allowlist-source-range": "10.1.2.3/8, ::1", "denylist-source-range": "10.9.0.0/16"})
    assert parsed == ({"allowed_sources": ("10.0.0.0/8", "::1/128"), "denied_sources": ("10.9.0.0/16",)}, ())


def test_the_alias_counts_where_the_name_is_absent():
    old, new = "whitelist-source-range", "allowlist-source-range"
    assert parse_annotations({old: "10.0.0.0/8"}).route == {"allowed_sources": ("10.0.0.0/8",)}
    assert parse_annotations({old: "10.0.0.0/8", new: "11.0.0.0/8"}).route == {"allowed_sources": ("11.0.0.0/8",)}
    assert parse_annotations({old: "nonsense", new: "11.0.0.0/8"}).faults == ()


@pytest.mark.parametrize("name", ["allowlist-source-range", "whitelist-source-range", "denylist-source-range"])
@pytest.mark.parametrize("value", ["", " ", ",", "10.0.0.0/8,", "18.0.0.0/8,nonsense", "10.0.0.0/33", "example.com"])
def test_a_malformed_list_closes(name, value):
    (fault,) = parse_annotations({name: value}).faults
    assert (fault.name, fault.closes) == (name, True)


def test_the_names_are_known():
    assert {"allowlist-source-range", "whitelist-source-range", "denylist-source-range"} <= ANNOTATIONS
