"""ingress-nginx's ConfigMap keys: defaults, malformed values, unknown keys, keys that are not built."""

import msgspec
import pytest

from ingressd.model.units import GzipPolicy, HstsPolicy, ProcessPolicy, RoutePolicy
from ingressd.settings.configmap import parse_headers, parse_settings, settings_reference
from ingressd.settings.configmap_later import NOT_BUILT
from ingressd.settings.configmap_table import BUILT, SETTINGS


def process(**values):
    parsed = parse_settings({key.replace("_", "-"): value for key, value in values.items()})
    assert parsed.problems == ()
    return msgspec.convert(parsed.process, ProcessPolicy)


def route(**values):
    parsed = parse_settings({key.replace("_", "-"): value for key, value in values.items()})
    assert parsed.problems == ()
    return msgspec.convert(parsed.route, RoutePolicy)


def test_documented_defaults_are_the_models_defaults():
    parsed = parse_settings({setting.key: setting.default for setting in BUILT})
    assert parsed.problems == ()
    assert msgspec.convert(parsed.process, ProcessPolicy) == ProcessPolicy()
    assert msgspec.convert(parsed.route, RoutePolicy) == RoutePolicy()
    assert parsed.upstream == {"balancer": "round_robin"}


def test_nothing_set_sets_nothing():
    parsed = parse_settings({})
    assert (parsed.process, parsed.route, parsed.upstream, parsed.problems) == ({}, {}, {}, ())


@pytest.mark.parametrize(
    ("text", "size"), [("0", None), ("1", 1), ("8k", 8192), ("8K", 8192), ("1m", 1 << 20), ("1g", 1 << 30)]
)
def test_sizes(text, size):
    assert route(proxy_body_size=text).body_bytes == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60.0), ("60s", 60.0), ("10m", 600.0), ("1h30m", 5400.0), ("500ms", 0.5), ("1d", 86400.0)],
)
def test_times(text, seconds):
    assert route(proxy_read_timeout=text).read_timeout_s == seconds


def test_header_buffers_bound_line_and_head():
    policy = process(large_client_header_buffers="4 16k")
    assert (policy.request_line_bytes, policy.field_line_bytes, policy.head_bytes) == (16384, 16384, 65536)


def test_hsts():
    assert process(hsts="false").hsts is None
    assert process(hsts_max_age="60", hsts_preload="true").hsts == HstsPolicy(60, True, True)


def test_gzip_has_ingress_nginx_types():
    gzip = process(use_gzip="true").gzip
    assert "application/json" in gzip.types
    assert (gzip.level, gzip.min_length_bytes) == (1, 256)
    assert process(use_gzip="true", gzip_types="*", gzip_level="5").gzip == GzipPolicy(5, 256, ("*",))
    assert process(gzip_level="5").gzip is None


def test_next_upstream():
    assert route(proxy_next_upstream="off").next_upstream == frozenset()
    assert route(proxy_next_upstream="error http_502 non_idempotent").next_upstream == {
        "error",
        "http_502",
        "non_idempotent",
    }
    assert route(retry_non_idempotent="true").next_upstream == {"error", "timeout", "non_idempotent"}


def test_tls():
    policy = process(ssl_protocols="TLSv1.3 TLSv1.2", ssl_session_timeout="1h", ssl_reject_handshake="true").tls
    assert (policy.protocols, policy.session_timeout_s, policy.reject_unknown_sni) == (
        ("TLSv1.2", "TLSv1.3"),
        3600,
        True,
    )


def test_balancers():
    assert parse_settings({"load-balance": "ewma"}).upstream == {"balancer": "ewma"}
    assert parse_settings({"upstream-hash-by": "$http_x_user"}).upstream == {
        "balancer": "hash",
        "hash_by": "header:x-user",
    }
    assert parse_settings({"upstream-hash-by": ""}).upstream == {}


def test_access_log():
    parsed = parse_settings(
        {
            "access-log-path": "/a",
            "http-access-log-path": "/b",
            "log-format-escape-json": "true",
            "disable-access-log": "true",
        }
    )
    assert parsed.process == {"access_log": {"path": "/b", "escape": "json"}}
    assert parsed.route == {"access_log": False}


def test_header_maps_are_references():
    parsed = parse_settings({"add-headers": "ns/a", "proxy-set-headers": "ns/b"})
    assert (parsed.add_headers, parsed.set_headers) == ("ns/a", "ns/b")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("proxy-body-size", "1x", "expected a size like 8k or 1m, got '1x'"),
        ("proxy-body-size", "", "expected a size"),
        ("proxy-body-size", "-1", "expected a size"),
        ("proxy-read-timeout", "soon", "expected a time"),
        ("proxy-read-timeout", "0", "above 0"),
        ("proxy-read-timeout", "-5", "expected a time"),
        ("proxy-next-upstream", "error http_418", "'http_418' is no condition"),
        ("proxy-next-upstream", "error off", "'off' is no condition"),
        ("proxy-next-upstream-tries", "-1", "expected a whole number from 0 to 1000"),
        ("ssl-redirect", "yes", 'expected "true" or "false"'),
        ("http-redirect-code", "303", "expected one of 301, 302, 307, 308"),
        ("large-client-header-buffers", "8k", 'like "4 8k"'),
        ("large-client-header-buffers", "0 8k", "at least one"),
        ("large-client-header-buffers", "4 16", "256 bytes"),
        ("ssl-protocols", "SSLv3 TLSv1.2", "expected some of"),
        ("ssl-ciphers", "A;B", "cipher list"),
        ("hide-headers", "X-A,X B", "'X B' is no header name"),
        ("forwarded-for-header", "X-For\r\nEvil: 1", "no header name"),
        ("add-headers", "justname", "expected namespace/name"),
        ("load-balance", "random", "expected one of round_robin, least_request, ewma"),
        ("gzip-types", "text", "no media type"),
        ("log-format-upstream", "a\nb", "control characters"),
        ("access-log-path", "/a\x00b", "control characters"),
        ("max-header-fields", "0", "from 1"),
        ("via", "a b", "no header name"),
        ("hsts-max-age", "1y", "whole number"),
    ],
)
def test_a_malformed_value_is_named_and_the_default_stands(key, value, says):
    parsed = parse_settings({key: value, "keep-alive": "9"})
    assert [(problem.key, problem.reason, problem.severity) for problem in parsed.problems] == [
        (key, "InvalidValue", "error")
    ]
    assert says in parsed.problems[0].message
    assert msgspec.convert(parsed.process, ProcessPolicy) == ProcessPolicy(keep_alive_s=9.0)
    assert msgspec.convert(parsed.route, RoutePolicy) == RoutePolicy()


def test_a_malformed_value_keeps_the_last_good_one():
    parsed = parse_settings({"proxy-body-size": "?"}, last_good={"proxy-body-size": "4k"})
    assert parsed.route == {"body_bytes": 4096}
    assert len(parsed.problems) == 1


def test_a_last_good_value_that_was_never_good_is_not_used():
    assert parse_settings({"proxy-body-size": "?"}, last_good={"proxy-body-size": "!"}).route == {}


def test_malformed_trust_trusts_nobody():
    parsed = parse_settings({"proxy-real-ip-cidr": "10.0.0.0/8,oops"}, last_good={"proxy-real-ip-cidr": "0.0.0.0/0"})
    assert parsed.process == {"trusted_proxies": ()}
    assert "'oops' is no address and no network" in parsed.problems[0].message


def test_an_unknown_key_names_the_nearest():
    (problem,) = parse_settings({"proxy-body-sise": "1m"}).problems
    assert (problem.reason, problem.message) == ("UnknownKey", "unknown key; did you mean 'proxy-body-size'?")


@pytest.mark.parametrize(
    "key", ["allow-backend-server-header", "enable-brotli", "custom-http-errors", "service-upstream"]
)
def test_a_known_key_that_is_not_built_is_refused_by_name(key):
    (problem,) = parse_settings({key: "true"}).problems
    assert (problem.key, problem.reason, problem.severity) == (key, "NotBuilt", "error")
    assert "not built yet" in problem.message


def test_a_key_that_is_not_built_but_asks_for_what_we_do_is_no_problem():
    values = {setting.key: setting.as_we_do[0] for setting in NOT_BUILT if setting.as_we_do}
    assert values["enable-brotli"] == "false"
    assert parse_settings(values).problems == ()


def test_a_guard_that_is_not_built_closes_every_route():
    parsed = parse_settings({"block-cidrs": "10.0.0.0/8"})
    assert parsed.route == {"failed_closed": "block-cidrs"}
    assert "503" in parsed.problems[0].message
    assert parse_settings({"block-cidrs": ""}).route == {}


@pytest.mark.parametrize("key", ["whitelist-source-range", "allowlist-source-range", "denylist-source-range"])
@pytest.mark.parametrize("value", ["10.0.0.0/8,nonsense", "10.0.0.0/33", ",", "10.0.0.0/8,", "10.0.0.0/8\n10.1.0.0/16"])
def test_a_malformed_list_of_sources_closes_every_route_and_never_falls_back(key, value):
    parsed = parse_settings({key: value}, last_good={key: "10.0.0.0/8"})
    assert parsed.route == {"failed_closed": key}
    assert [(problem.key, problem.reason) for problem in parsed.problems] == [(key, "InvalidValue")]
    assert "answers 503" in parsed.problems[0].message


def test_lists_of_sources():
    assert route(whitelist_source_range="10.1.2.3/8, 192.0.2.1,2001:DB8::1/32").allowed_sources == (
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8::/32",
    )
    assert route(denylist_source_range="10.0.0.0/8").denied_sources == ("10.0.0.0/8",)
    both = route(whitelist_source_range="10.0.0.0/8", allowlist_source_range="11.0.0.0/8")
    assert both.allowed_sources == ("11.0.0.0/8",)
    assert route(whitelist_source_range=" ", denylist_source_range="") == RoutePolicy()


def test_ipv4_networks_written_as_ipv6_are_ipv4():
    assert route(whitelist_source_range="::ffff:10.0.0.0/104,::ffff:192.0.2.1").allowed_sources == (
        "10.0.0.0/8",
        "192.0.2.1/32",
    )
    # Wider than all of IPv4: it holds IPv6 addresses as well.
    assert route(whitelist_source_range="::/0").allowed_sources == ("::/0",)


def test_what_the_admission_webhook_asks_for():
    assert (parse_settings({}).blocked_words, parse_settings({}).strict_path_type) == ((), True)
    parsed = parse_settings({"annotation-value-word-blocklist": "a b, c,", "strict-validate-path-type": "false"})
    assert (parsed.blocked_words, parsed.strict_path_type, parsed.problems) == (("a b", "c"), False, ())


def test_nginx_machinery_is_a_warning():
    (problem,) = parse_settings({"variables-hash-bucket-size": "256"}).problems
    assert problem.severity == "warning"


def test_headers_of_a_config_map():
    pairs, problems = parse_headers({"X-B": " two ", "X-A": "one", "X-Empty": ""})
    assert pairs == (("X-A", "one"), ("X-B", "two"), ("X-Empty", ""))
    assert problems == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nSet-Cookie: x"),
        ("X-A", "a\nb"),
        ("X-A", "a\x00"),
        ("X-A\r\nY", "a"),
        ("X A", "a"),
        ("", "a"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "0"),
        ("Connection", "close"),
        ("X-A", "\u20ac"),
        ("X-A", "$remote_addr"),
    ],
)
def test_header_injection_is_refused_and_the_others_stay(name, value):
    pairs, problems = parse_headers({name: value, "X-Good": "1"})
    assert pairs == (("X-Good", "1"),)
    assert [problem.key for problem in problems] == [name]


def test_the_reference_names_every_key():
    text = settings_reference()
    assert all(f"| `{key}`" in text for key in SETTINGS)
