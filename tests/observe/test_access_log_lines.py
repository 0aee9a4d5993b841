"""What a line says, and that no client can make it say something else."""

import json
import time

import pytest
from stage.access_records import FIELDS, record

from ingressd.observe.access_log_format import JsonFormat, shortened
from ingressd.observe.access_log_text import DEFAULT_TEMPLATE, TextFormat


def as_json(**changes):
    (line,) = JsonFormat()([record(**changes)])
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    return json.loads(line)


def as_text(template, *, escape="default", **changes):
    (line,) = TextFormat(template, escape=escape)([record(**changes)])
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    return line[:-1]


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_json_has_the_contracts_fields_in_its_order():
    line = as_json()
    assert ",".join(line) == (
        "time,request_id,remote_addr,host,method,path,protocol,status,bytes_sent,bytes_received,duration_s,upstream,"
        "upstream_addr,upstream_status,upstream_duration_s,route,user_agent,referer,tls,error"
    )
    assert line == {
        "time": "2025-11-24T22:13:00.123Z",
        "request_id": "5f0d9e87f73e28190c8eca6a147356f2",
        "remote_addr": "192.0.2.7",
        "host": "shop.example:8080",
        "method": "GET",
        "path": "/api/items?id=3",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes_sent": 1234,
        "bytes_received": 345,
        "duration_s": 0.012346,
        "upstream": "default/api:http",
        "upstream_addr": "10.0.0.1:8080",
        "upstream_status": 200,
        "upstream_duration_s": 0.0099,
        "route": "Ingress/default/shop",
        "user_agent": "curl/7.88.1",
        "referer": None,
        "tls": None,
        "error": None,
    }


def test_json_of_an_exchange_that_never_got_far():
    line = as_json(upstream=None, upstream_addr=None, upstream_status=None, upstream_duration_s=None, error="no route")
    assert line["upstream"] is line["upstream_addr"] is line["upstream_status"] is line["upstream_duration_s"] is None
    assert line["error"] == "no route"


def test_times_follow_each_record_and_not_the_batch():
    at = FIELDS["time"]
    times = [at, at + 0.001, at + 0.0005, at + 60, at - 86400]
    lines = JsonFormat()([record(time=value) for value in times])
    assert [json.loads(line)["time"] for line in lines] == [
        "2025-11-24T22:13:00.123Z",
        "2025-11-24T22:13:00.124Z",
        "2025-11-24T22:13:00.124Z",
        "2025-11-24T22:14:00.123Z",
        "2025-11-23T22:13:00.123Z",
    ]


@pytest.mark.parametrize("name", ["path", "user_agent", "referer", "host", "request_id", "method", "protocol"])
@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'"},{"status":500', '"},{"status":500'),
        (b"back\\slash", "back\\slash"),
        (b"a\r\nb\0c\x1b[31m\x7f", "a\r\nb\0c\x1b[31m\x7f"),
        ("caf\xe9 \u2028 \U0001f600".encode(), "caf\xe9 \u2028 \U0001f600"),
        (b"caf\xe9", "caf\\xe9"),
        (b"\xc2\x9b31m", "\x9b31m"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (bytes(range(256)), None),
        (b"", ""),
    ],
)
def test_json_is_valid_for_any_bytes_and_plain_ascii(name, raw, shown):
    (line,) = JsonFormat()([record(**{name: raw})])
    assert line[:-1].translate(None, bytes(range(0x20, 0x7F))) == b""
    parsed = json.loads(line)
    assert len(parsed) == 20
    if shown is not None:
        assert parsed[name] == shown


def test_default_text_is_ingress_nginxs(utc):
    assert (
        as_text("text")
        == as_text(DEFAULT_TEMPLATE)
        == (
            b"192.0.2.7 - - [24/Nov/2025:22:13:00 +0000] "
            b'"GET /api/items?id=3 HTTP/1.1" 200 1000 "-" "curl/7.88.1" 345 0.012 '
            b"[default/api:http] [] 10.0.0.1:8080 999 0.010 200 5f0d9e87f73e28190c8eca6a147356f2"
        ).replace(b" [] ", b" [-] ")
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$time_iso8601", b"2025-11-24T22:13:00+00:00"),
        ("$msec", b"1764022380.124"),
        ("${status}00", b"20000"),
        ("$host $request_method $uri $args", b"shop.example:8080 GET /api/items id=3"),
        ("$namespace $ingress_name $service_name $service_port", b"default shop api http"),
        ("$bytes_sent $body_bytes_sent", b"1234 1000"),
        ("$scheme $ssl_protocol", b"http -"),
        ("100% $status $", b"100% 200 $"),
        ("a\nb $status", b"a b 200"),
    ],
)
def test_variables(utc, template, expected):
    assert as_text(template) == expected


def test_zone_of_the_machine(monkeypatch):
    monkeypatch.setenv("TZ", "XYZ+3:30")
    time.tzset()
    try:
        assert as_text("$time_local $time_iso8601") == b"24/Nov/2025:18:43:00 -0330 2025-11-24T18:43:00-03:30"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_unknown_variables_are_named_and_show_as_nothing():
    formatter = TextFormat("$status $nope $geoip_city")
    assert formatter.unknown == ["nope", "geoip_city"]
    assert formatter([record()]) == [b"200 - -\n"]


def test_any_request_field_can_be_logged():
    formatter = TextFormat("$http_x_tenant|$http_cookie")
    assert formatter.wants_header
    assert formatter([record(header={b"x-tenant": b'a"b'}.get)]) == [b"a\\x22b|-\n"]
    assert formatter([record(header=None)]) == [b"-|-\n"]
    assert not TextFormat("$http_user_agent").wants_header


FORGED = b'x" 200 1 "-"\r\n203.0.113.9 - - [24/Nov/2025] \x1b[2J\\caf\xe9'


def test_nobody_forges_a_line_or_ends_a_field():
    line = as_text('"$http_user_agent" "$request"', user_agent=FORGED, path=FORGED)
    assert line.count(b'"') == 4
    assert line.isascii()
    assert b"\\x0D\\x0A203.0.113.9" in line
    assert b"\\x5Ccaf\\xE9" in line


def test_escape_json_makes_json_strings():
    line = as_text('{"agent":"$http_user_agent","referer":"$http_referer"}', escape="json", user_agent=FORGED)
    assert json.loads(line) == {"agent": FORGED.decode("utf-8", "backslashreplace"), "referer": ""}


def test_escape_none_still_keeps_lines_whole():
    line = as_text("$http_user_agent", escape="none", user_agent=FORGED)
    assert line.startswith(b'x" 200')
    assert b"\r" not in line
    assert b"\x1b" not in line
    assert line.endswith(b"caf\xe9")


def test_shortened_keeps_what_is_ours():
    short = shortened(record(path=b"/" + b"a" * 9000, user_agent=b"u" * 9000), 100)
    line = json.loads(JsonFormat()([short])[0])
    assert line["path"] == "/" + "a" * 99 + "..."
    assert line["user_agent"] == "u" * 100 + "..."
    assert (line["status"], line["route"], line["request_id"]) == (200, FIELDS["route"], FIELDS["request_id"].decode())
