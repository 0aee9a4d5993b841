import msgspec
import pytest

from ingressd.filters.registry import parse_annotations

replace = msgspec.structs.replace


def location(answer):
    return dict(answer.headers)[b"Location"]


def test_plain_request_is_redirected(stage):
    answer = stage.on_request(stage.request(target="/a/b?x=1"))
    assert answer.status == 308
    assert location(answer) == b"https://shop.example/a/b?x=1"


def test_code_is_configurable(stage):
    stage.process = replace(stage.process, redirect_code=301)
    assert stage.on_request(stage.request()).status == 301


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", b"https://shop.example"),
        ("/dir/", b"https://shop.example/dir"),
        ("/dir//", b"https://shop.example/dir/"),
        ("/?q=/", b"https://shop.example/?q="),
        ("/%2F?a=%0d%0aX:y", b"https://shop.example/%2F?a=%0d%0aX:y"),
    ],
)
def test_a_slash_at_the_end_is_cut_as_in_ingress_nginx(stage, target, expected):
    assert location(stage.on_request(stage.request(target=target))) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"shop.example:8080", b"https://shop.example"),
        (b"example.com:80", b"https://example.com"),
        (b"[2001:db8::1]:8080", b"https://[2001:db8::1]"),
        (b"[2001:db8::1]", b"https://[2001:db8::1]"),
        (b"shop.example:", b"https://shop.example"),
    ],
)
def test_location_has_no_port(stage, host, expected):
    assert location(stage.on_request(stage.request(host=host))) == expected


def test_request_over_tls_is_not_redirected(stage):
    assert stage.on_request(stage.request(scheme=b"https")) is None


def test_what_a_trusted_proxy_says_decides(stage):
    assert stage.on_request(stage.request(scheme=b"http", forwarded_scheme=b"https")) is None
    assert stage.on_request(stage.request(scheme=b"https", forwarded_scheme=b"http")).status == 308
    assert stage.on_request(stage.request(forwarded_scheme=b"myproto")) is None


def test_without_tls_nothing_happens_unless_forced(stage):
    stage.route = replace(stage.route, has_tls=False)
    assert stage.on_request(stage.request()) is None
    stage.policy = replace(stage.policy, force_ssl_redirect=True, ssl_redirect=False)
    assert stage.on_request(stage.request()).status == 308


def test_switched_off(stage):
    stage.policy = replace(stage.policy, ssl_redirect=False)
    assert stage.on_request(stage.request()) is None


@pytest.mark.parametrize("path", ["/.well-known/acme-challenge", "/.well-known/acme-challenge/token"])
def test_a_route_for_acme_challenges_answers_over_http(stage, path):
    stage.route = replace(stage.route, path=path)
    stage.policy = replace(stage.policy, force_ssl_redirect=True)
    assert stage.on_request(stage.request(target=path)) is None


def test_the_path_alone_is_no_way_around_the_redirect(stage):
    assert stage.on_request(stage.request(target="/.well-known/acme-challenge/token")).status == 308


def test_without_a_host_there_is_nowhere_to_go(stage):
    assert stage.on_request(stage.request("Accept: */*", version="1.0")).status == 400


@pytest.mark.parametrize(
    ("annotations", "has_tls", "redirected"),
    [
        ({"ssl-redirect": "false"}, True, False),
        ({"ssl-redirect": "true"}, True, True),
        ({"ssl-redirect": "true"}, False, False),
        ({"force-ssl-redirect": "true"}, False, True),
        ({"force-ssl-redirect": "true", "ssl-redirect": "false"}, False, True),
        ({"force-ssl-redirect": "false"}, True, True),
        ({"ssl-redirect": "perhaps"}, True, True),
    ],
)
def test_annotations_replace_the_settings(stage, annotations, has_tls, redirected):
    stage.policy = replace(stage.policy, **parse_annotations(annotations).route)
    stage.route = replace(stage.route, has_tls=has_tls)
    assert (stage.on_request(stage.request()) is not None) == redirected


@pytest.mark.parametrize("name", ["ssl-redirect", "force-ssl-redirect"])
def test_an_annotation_that_cannot_be_read_is_said(name):
    parsed = parse_annotations({name: "perhaps"})
    assert (parsed.route, [(fault.name, fault.closes) for fault in parsed.faults]) == ({}, [(name, False)])
