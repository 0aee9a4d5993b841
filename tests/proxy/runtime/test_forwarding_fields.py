from itertools import count

import pytest

from ingressd.model.units import ProcessPolicy
from ingressd.protocol.h1 import HeadLimits, parse_request_head
from ingressd.proxy.runtime.forwarded import Forwarder, canonical_ip

PEER = "127.0.0.1"


def forward(*lines, peer=PEER, tls=False, port=b"8080", host="hdr.example", forwarder=None, version="1.1", **policy):
    """Forwarded and its lines as a mapping; a field that comes twice fails."""
    names = [f"Host: {host}"] if host else []
    head = "\r\n".join([f"GET /x?y=1 HTTP/{version}", *names, *lines, "", ""]).encode("latin-1")
    forwarder = forwarder or Forwarder(ProcessPolicy(**policy))
    forwarded = forwarder.forward(parse_request_head(head, HeadLimits()), peer, tls, port)
    assert forwarded.lines.endswith(b"\r\n")
    pairs = [line.split(b": ", 1) for line in forwarded.lines.split(b"\r\n")[:-1]]
    fields = {name.decode(): value.decode("latin-1") for name, value in pairs}
    assert len(fields) == len(pairs)
    return forwarded, fields


def test_default_fields():
    forwarded, fields = forward()
    request_id = fields.pop("X-Request-ID")
    assert len(request_id) == 32
    assert int(request_id, 16) >= 0
    assert forwarded.request_id == request_id.encode()
    assert fields == {
        "Host": "hdr.example",
        "X-Real-IP": PEER,
        "X-Forwarded-For": PEER,
        "X-Forwarded-Host": "hdr.example",
        "X-Forwarded-Port": "8080",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Scheme": "http",
        "X-Scheme": "http",
    }
    assert (forwarded.client_ip, forwarded.scheme, forwarded.host) == (PEER, b"http", b"hdr.example")


def test_both_lanes_say_the_same():
    """A request that takes the slow lane for a field that changes nothing gets what the fast lane gives."""
    fast = forward(forwarder=Forwarder(ProcessPolicy(), random=lambda size: b"\x11" * size), tls=True, port=b"443")[1]
    slow = forward(
        "X-Scheme: ftp", forwarder=Forwarder(ProcessPolicy(), random=lambda size: b"\x11" * size), tls=True, port=b"443"
    )[1]
    assert fast == slow
    assert fast["X-Forwarded-Proto"] == "https"


def test_request_ids_never_repeat_over_refills():
    numbers = count()
    forwarder = Forwarder(
        ProcessPolicy(), random=lambda size: b"".join(next(numbers).to_bytes(16, "big") for _ in range(size // 16))
    )
    seen = {forward(*lines, forwarder=forwarder)[0].request_id for _ in range(400) for lines in ((), ("X-Scheme: a",))}
    assert len(seen) == 800
    assert all(len(request_id) == 32 for request_id in seen)


SPOOF = ("X-Forwarded-Port: 1234", "X-Forwarded-Proto: myproto", "X-Forwarded-Scheme: myproto")
SPOOF = (*SPOOF, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: myhost")


def test_nobody_is_believed_by_default():
    forwarded, fields = forward(*SPOOF)
    fields.pop("X-Request-ID")
    assert fields == {
        "Host": "hdr.example",
        "X-Real-IP": PEER,
        "X-Forwarded-For": PEER,
        "X-Forwarded-Host": "hdr.example",
        "X-Forwarded-Port": "8080",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Scheme": "http",
        "X-Scheme": "http",
        "X-Original-Forwarded-For": "1.2.3.4",
        "X-Original-Forwarded-Host": "myhost",
    }
    assert forwarded.forwarded_scheme == b"http"


def test_client_cannot_send_what_only_we_say():
    _, fields = forward(
        "X-Original-Forwarded-For: 6.6.6.6", "X-Original-Forwarded-Host: evil", "X-Scheme: https", "X-Real-IP: 6.6.6.6"
    )
    assert fields["X-Scheme"] == "http"
    assert fields["X-Real-IP"] == PEER
    assert not {"X-Original-Forwarded-For", "X-Original-Forwarded-Host"} & fields.keys()


def test_use_forwarded_headers_believes():
    forwarded, fields = forward(*SPOOF, use_forwarded_headers=True)
    assert fields["X-Forwarded-Proto"] == fields["X-Forwarded-Scheme"] == fields["X-Scheme"] == "myproto"
    assert fields["X-Forwarded-Port"] == "1234"
    assert fields["Host"] == fields["X-Forwarded-Host"] == "myhost"
    assert fields["X-Forwarded-For"] == fields["X-Real-IP"] == "1.2.3.4"
    assert (forwarded.client_ip, forwarded.host) == ("1.2.3.4", b"myhost")
    assert (forwarded.scheme, forwarded.forwarded_scheme) == (b"http", b"myproto")


def test_first_forwarded_host_wins():
    forwarded, fields = forward("X-Forwarded-Host: myhost.com, another.host,example.net", use_forwarded_headers=True)
    assert fields["Host"] == fields["X-Forwarded-Host"] == "myhost.com"
    assert forwarded.host == b"myhost.com"


@pytest.mark.parametrize("value", ["evil/../x", "a b", "host@evil", "[::1", "", "host:99999", "'"])
def test_malformed_forwarded_host_is_not_used(value):
    _, fields = forward(f"X-Forwarded-Host: {value}", use_forwarded_headers=True)
    assert fields["Host"] == fields["X-Forwarded-Host"] == "hdr.example"


@pytest.mark.parametrize("value", ["0", "99999999", "80a", "-1", "80 80"])
def test_malformed_port_and_scheme_are_not_used(value):
    _, fields = forward(f"X-Forwarded-Port: {value}", f"X-Forwarded-Proto: {value}", use_forwarded_headers=True)
    assert fields["X-Forwarded-Port"] == "8080"
    assert fields["X-Forwarded-Proto"] == "http"


def test_real_ip_believes_the_address_only():
    forwarded, fields = forward(*SPOOF, enable_real_ip=True)
    assert fields["X-Forwarded-For"] == fields["X-Real-IP"] == forwarded.client_ip == "1.2.3.4"
    assert fields["Host"] == fields["X-Forwarded-Host"] == "hdr.example"
    assert fields["X-Forwarded-Proto"] == "http"
    assert fields["X-Forwarded-Port"] == "8080"


def test_trust_is_limited_to_the_networks_named():
    policy = {"use_forwarded_headers": True, "trusted_proxies": ("10.0.0.0/8",)}
    _, fields = forward(*SPOOF, **policy)
    assert fields["X-Forwarded-For"] == fields["X-Real-IP"] == PEER
    assert fields["X-Original-Forwarded-For"] == "1.2.3.4"
    assert fields["X-Forwarded-Host"] == "hdr.example"
    assert fields["X-Forwarded-Proto"] == "http"
    assert forward(*SPOOF, peer="10.9.9.9", **policy)[1]["X-Forwarded-Proto"] == "myproto"


def test_nobody_is_trusted_when_no_network_is():
    assert forward(*SPOOF, use_forwarded_headers=True, trusted_proxies=())[1]["X-Real-IP"] == PEER


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        ("9.9.9.9, 1.2.3.4, 10.1.1.1", "1.2.3.4"),
        ("1.2.3.4", "1.2.3.4"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("garbage, 10.2.2.2", "10.2.2.2"),
        ("1.2.3.4, unknown", PEER),
        ("1.2.3.4:5678, 10.1.1.1", "1.2.3.4"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("", PEER),
        (",", PEER),
    ],
)
def test_address_is_the_first_from_the_right_that_is_no_proxy(claimed, expected):
    policy = {"use_forwarded_headers": True, "trusted_proxies": ("127.0.0.0/8", "10.0.0.0/8")}
    for _ in range(2):
        assert forward(f"X-Forwarded-For: {claimed}", **policy)[1]["X-Real-IP"] == expected


def test_several_lines_are_one_list():
    policy = {"use_forwarded_headers": True, "trusted_proxies": ("127.0.0.0/8",)}
    _, fields = forward("X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", **policy)
    assert fields["X-Real-IP"] == "2.2.2.2"
    assert fields["X-Original-Forwarded-For"] == "1.1.1.1, 2.2.2.2"


def test_memory_of_one_list_does_not_answer_for_another_peer():
    forwarder = Forwarder(ProcessPolicy(use_forwarded_headers=True, trusted_proxies=("10.0.0.0/8",)))
    assert forward("X-Forwarded-For: 1.2.3.4", peer="10.0.0.1", forwarder=forwarder)[0].client_ip == "1.2.3.4"
    assert forward("X-Forwarded-For: 1.2.3.4", peer="11.0.0.1", forwarder=forwarder)[0].client_ip == "11.0.0.1"


def test_full_list_when_asked():
    policy = {"use_forwarded_headers": True, "compute_full_forwarded_for": True}
    _, fields = forward("X-Forwarded-For: 1.2.3.4", **policy)
    assert fields["X-Forwarded-For"] == f"1.2.3.4, {PEER}"
    assert fields["X-Real-IP"] == "1.2.3.4"
    assert forward(**policy)[1]["X-Forwarded-For"] == PEER


def test_another_field_may_name_the_client():
    policy = {"use_forwarded_headers": True, "forwarded_for_header": "X-Client-IP"}
    _, fields = forward("X-Client-IP: 5.6.7.8", "X-Forwarded-For: 1.2.3.4", **policy)
    assert fields["X-Real-IP"] == fields["X-Original-Forwarded-For"] == "5.6.7.8"
    assert forward("X-Forwarded-For: 1.2.3.4", **policy)[1]["X-Real-IP"] == PEER


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc", True), ("~!#/x", True), ("a" * 256, True), ("a" * 257, False), ("a b", False), ("caf\xe9", False)],
)
def test_a_sane_request_id_is_kept(sent, kept):
    forwarded, fields = forward(f"X-Request-ID: {sent}")
    assert (fields["X-Request-ID"] == sent) is kept
    assert forwarded.request_id == fields["X-Request-ID"].encode()


def test_no_request_id_when_switched_off():
    forwarded, fields = forward(generate_request_id=False)
    assert "X-Request-ID" not in fields
    assert forwarded.request_id == b""
    assert forward("X-Request-ID: abc", generate_request_id=False)[1]["X-Request-ID"] == "abc"


@pytest.mark.parametrize(
    ("peer", "shown"), [("::1", "::1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1")]
)
def test_peers_over_ipv6(peer, shown):
    forwarded, fields = forward(peer=peer, host="[::1]:8080")
    assert fields["X-Real-IP"] == fields["X-Forwarded-For"] == forwarded.client_ip == shown
    assert fields["Host"] == "[::1]:8080"


def test_mapped_peer_is_in_the_ipv4_network():
    policy = {"use_forwarded_headers": True, "trusted_proxies": ("192.0.2.0/24",)}
    assert forward(*SPOOF, peer="::ffff:192.0.2.1", **policy)[0].client_ip == "1.2.3.4"


def test_default_trust_reaches_ipv6_peers_and_a_network_does_not():
    assert forward(*SPOOF, peer="::1", use_forwarded_headers=True)[0].client_ip == "1.2.3.4"
    policy = {"use_forwarded_headers": True, "trusted_proxies": ("127.0.0.0/8",)}
    assert forward(*SPOOF, peer="::1", **policy)[0].client_ip == "::1"


def test_via_is_passed_on_and_added_to_when_configured():
    assert "Via" not in forward()[1]
    assert forward("Via: 1.0 fred, 1.1 p.example")[1]["Via"] == "1.0 fred, 1.1 p.example"
    assert forward(via="edge")[1]["Via"] == "1.1 edge"
    assert forward("Via: 1.1 fred", via="edge", version="1.0")[1]["Via"] == "1.1 fred, 1.0 edge"


def test_spoofable_fields_pass_only_from_a_trusted_proxy():
    assert "X-Forwarded-Prefix" not in forward("X-Forwarded-Prefix: /app")[1]
    fields = forward("X-Forwarded-Prefix: /app", "Forwarded: for=1.2.3.4", use_forwarded_headers=True)[1]
    assert fields["X-Forwarded-Prefix"] == "/app"
    assert fields["Forwarded"] == "for=1.2.3.4"


def test_a_client_without_a_host():
    forwarded, fields = forward(host="", version="1.0")
    assert fields["Host"] == ""
    assert "X-Forwarded-Host" not in fields
    assert forwarded.host == b""


def test_fields_the_operator_sets_are_left_to_the_filter():
    _, fields = forward(set_headers=(("x-forwarded-proto", "https"), ("X-Real-IP", ""), ("Bad Name", "1")))
    assert not {"X-Forwarded-Proto", "X-Real-IP"} & fields.keys()
    assert "X-Forwarded-For" in fields


def test_listeners_do_not_mix():
    forwarder = Forwarder(ProcessPolicy())
    for tls, port in ((False, b"80"), (True, b"443"), (False, b"80")):
        fields = forward(forwarder=forwarder, tls=tls, port=port)[1]
        assert (fields["X-Forwarded-Port"], fields["X-Scheme"]) == (port.decode(), "https" if tls else "http")


def test_many_peers_are_forgotten_not_kept():
    forwarder = Forwarder(ProcessPolicy())
    for number in range(5000):
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        assert forward(peer=address, forwarder=forwarder)[0].client_ip == address
    kept = getattr(forwarder, "_peers", None)
    if kept is None:
        pytest.skip("compiled: its fields cannot be seen")
    assert 0 < len(kept) <= 4096


@pytest.mark.parametrize("text", ["", "a", "1.2.3", "1.2.3.4.5", "[1.2.3.4", "1.2.3.4:", "::g", "1.2.3.4 "])
def test_no_address(text):
    assert canonical_ip(text) is None


def test_bad_network_is_an_error_at_apply():
    with pytest.raises(ValueError, match="not-a-network"):
        Forwarder(ProcessPolicy(trusted_proxies=("not-a-network",)))


@pytest.mark.parametrize("lines", [(), ("X-Scheme: ftp",)], ids=["fast", "slow"])
@pytest.mark.parametrize(
    ("port", "tls", "scheme"), [(b"443", False, "https"), (b"1234", False, "http"), (b"1234", True, "https")]
)
def test_a_balancer_that_was_asked_on_443_has_ended_tls(lines, port, tls, scheme):
    """test/e2e/settings/proxy_protocol.go: "should respect proto passed by the PROXY Protocol server port"."""
    forwarded, fields = forward(*lines, tls=tls, port=port, proxy_protocol=True)
    assert fields["X-Forwarded-Port"] == port.decode()
    assert fields["X-Forwarded-Proto"] == fields["X-Scheme"] == forwarded.forwarded_scheme.decode() == scheme
    assert forwarded.scheme == (b"https" if tls else b"http"), "HSTS is for TLS that we end ourselves"
    assert forward(*lines, tls=tls, port=port)[1]["X-Forwarded-Proto"] == ("https" if tls else "http")


def test_the_proxy_header_is_nearer_than_x_forwarded_proto():
    policy = {"use_forwarded_headers": True, "proxy_protocol": True}
    assert forward("X-Forwarded-Proto: http", port=b"443", **policy)[1]["X-Forwarded-Proto"] == "https"
    assert forward("X-Forwarded-Proto: https", port=b"80", **policy)[1]["X-Forwarded-Proto"] == "https"


def test_the_proxy_header_says_who_the_client_is():
    """nginx.tmpl: X-Forwarded-For counts only with `use-forwarded-headers`, from an address that is trusted."""
    spoof = "X-Forwarded-For: 192.168.0.111"
    networks = ("10.0.0.0/8", "192.168.0.1/32")
    peer = "192.168.0.1"
    for policy, expected in (
        ({"enable_real_ip": True}, peer),
        ({"use_forwarded_headers": True}, "192.168.0.111"),
        ({"use_forwarded_headers": True, "trusted_proxies": networks}, "192.168.0.111"),
        ({"use_forwarded_headers": True, "trusted_proxies": networks[:1]}, peer),
    ):
        forwarded, fields = forward(spoof, peer=peer, proxy_protocol=True, **policy)
        assert fields["X-Forwarded-For"] == forwarded.client_ip == expected, policy
