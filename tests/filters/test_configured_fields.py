import msgspec
import pytest

from ingressd.filters.field_values import unknown_variables
from ingressd.filters.registry import FILTERS, settings_documentation

replace = msgspec.structs.replace


@pytest.fixture
def stage(stage):
    stage.process = replace(stage.process, hsts=None)
    stage.policy = replace(stage.policy, ssl_redirect=False)
    return stage


def test_nothing_configured_costs_nothing(stage):
    from ingressd.filters.registry import compile_filters

    assert compile_filters(stage.process, stage.policy, stage.route) == ((), ())
    assert compile_filters(stage.process, stage.policy, None) == ((), ())


def test_routes_share_what_is_the_same_for_all(stage):
    from ingressd.filters.registry import compile_filters

    stage.process = replace(stage.process, add_headers=(("X-A", "1"),), set_headers=(("X-B", "2"),))
    one = compile_filters(stage.process, stage.policy, stage.route)
    other = compile_filters(stage.process, stage.policy, replace(stage.route, path="/other"))
    assert one[0][0] is other[0][0]
    assert one[1][0] is other[1][0]


def test_hidden_fields_do_not_pass_in_any_case(stage):
    stage.process = replace(stage.process, hide_headers=("X-Powered-By", "x-runtime", "Strict-Transport-Security"))
    response = stage.response(
        "x-powered-by: php", "X-Keep: 1", "X-RUNTIME: 3", "X-Powered-By-Too: 1", "Strict-Transport-Security: max-age=1"
    )
    stage.on_response(stage.request(), response)
    assert response.fields == [b"X-Keep: 1", b"X-Powered-By-Too: 1"]
    assert not response.special


def test_added_fields_replace_the_upstreams_and_go_on_our_answers_too(stage):
    stage.process = replace(stage.process, add_headers=(("X-Frame-Options", "DENY"), ("X-Request", "$req_id")))
    response = stage.response("x-frame-options: ALLOW", "X-Keep: 1")
    stage.on_response(stage.request(), response)
    assert response.fields == [b"X-Keep: 1", b"X-Frame-Options: DENY", b"X-Request: 0123456789abcdef"]
    stage.route = None
    assert stage.own_lines(stage.request()) == b"X-Frame-Options: DENY\r\nX-Request: 0123456789abcdef\r\n"


def test_server_is_ours_or_nobodys(stage):
    response = stage.response("Server: Apache/2.2")
    stage.on_response(stage.request(), response)
    assert response.fields == []
    stage.process = replace(stage.process, server_tokens=True)
    response = stage.response("Server: Apache/2.2")
    stage.on_response(stage.request(), response)
    assert response.fields == [b"Server: ingressd"]
    assert stage.own_lines(stage.request()) == b"Server: ingressd\r\n"


def test_set_fields_replace_the_clients(stage):
    stage.process = replace(
        stage.process, set_headers=(("X-Via", "edge"), ("X-Who", "ip=$remote_addr;"), ("X-Gone", ""))
    )
    request = stage.request("Host: shop.example", "x-via: liar", "X-GONE: 1", "X-Other: 1", "X-Who: me")
    stage.on_request(request)
    assert request.head.fields == [b"X-Other: 1", b"X-Via: edge", b"X-Who: ip=192.0.2.7;"]


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade", "TE", "Bad Name", ""])
def test_framing_and_malformed_names_cannot_be_set(stage, name):
    stage.process = replace(stage.process, set_headers=((name, "1"),), add_headers=((name, "1"),), hide_headers=(name,))
    request = stage.request()
    stage.on_request(request)
    assert request.head.fields == []
    response = stage.response("X-Keep: 1")
    stage.on_response(request, response)
    if name != "TE":
        assert response.fields == [b"X-Keep: 1"]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\0", "\x7f"])
def test_values_that_would_break_a_line_are_left_out(stage, value):
    stage.process = replace(stage.process, set_headers=(("X-A", value),), add_headers=(("X-A", value),))
    request = stage.request()
    stage.on_request(request)
    assert request.head.fields == []
    assert stage.own_lines(request) == b""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$host", b"shop.example"),
        ("${http_host}/", b"Shop.Example:8080/"),
        ("$request_method $request_uri", b"GET /a?b=c"),
        ("$uri", b"/a"),
        ("$scheme-$pass_access_scheme", b"http-https"),
        ("$http_x_tenant", b"blue, green"),
        ("$http_x_forwarded_for", b"6.6.6.6"),
        ("$http_nothing", None),
        ("costs 5$", b"costs 5$"),
        ("$unknown_thing", b"$unknown_thing"),
    ],
)
def test_variables(stage, value, expected):
    stage.process = replace(stage.process, set_headers=(("X-Set", value),))
    request = stage.request(
        "Host: Shop.Example:8080",
        "X-Tenant: blue",
        "X-Tenant: green",
        "X-Forwarded-For: 6.6.6.6",
        target="/a?b=c",
        forwarded_scheme=b"https",
    )
    stage.on_request(request)
    found = [line for line in request.head.fields if line.startswith(b"X-Set")]
    assert found == ([] if expected is None else [b"X-Set: " + expected])


def test_unknown_variables_are_named():
    assert unknown_variables("t=${msec} $host $http_x $nope") == ("msec", "nope")


def test_every_setting_is_documented_once():
    names = [setting for setting, _, _ in settings_documentation()]
    assert len(names) == len(set(names))
    assert len({spec.name for spec in FILTERS}) == len(FILTERS)
