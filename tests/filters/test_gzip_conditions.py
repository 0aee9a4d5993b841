import gzip
import zlib

import msgspec
import pytest

from ingressd.filters.gzip import GzipBody, accepts_gzip
from ingressd.model.units import GzipPolicy

replace = msgspec.structs.replace
JSON = "Content-Type: application/json; charset=utf-8"
LONG = "Content-Length: 1000"


@pytest.fixture
def stage(stage):
    stage.process = replace(
        stage.process,
        hsts=None,
        gzip=GzipPolicy(types=("application/json", "text/plain"), disable_user_agents=("(?i)msie [4-6]", "(")),
    )
    return stage


def accepting(stage, *lines, **arguments):
    return stage.request("Host: shop.example", "Accept-Encoding: gzip", *lines, **arguments)


def test_off_by_default(stage):
    stage.process = replace(stage.process, gzip=None)
    response = stage.response(JSON, LONG)
    assert stage.on_response(accepting(stage), response) is None
    assert response.fields == [JSON.encode()]


def test_compressed_body_is_what_was_sent(stage):
    response = stage.response(JSON, LONG)
    transform = stage.on_response(accepting(stage), response)
    sent = b"".join([transform.feed(b"x" * 400), transform.feed(b"y" * 600), transform.finish()])
    assert gzip.decompress(sent) == b"x" * 400 + b"y" * 600
    assert b"Content-Encoding: gzip" in response.fields
    assert b"Vary: Accept-Encoding" in response.fields
    assert response.content_length is None
    assert len(sent) < 100


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: image/png", LONG],
        [LONG],
        [JSON, "Content-Length: 255"],
        [JSON, LONG, "Content-Encoding: br"],
        [JSON, LONG, "Cache-Control: private, No-Transform"],
    ],
)
def test_left_alone_without_a_trace(stage, lines):
    response = stage.response(*lines)
    before = list(response.fields)
    assert stage.on_response(accepting(stage), response) is None
    assert response.fields == before


@pytest.mark.parametrize("status", [206, 304, 500, 302, 201])
def test_only_200_403_and_404(stage, status):
    assert stage.on_response(accepting(stage), stage.response(JSON, LONG, status=status)) is None


@pytest.mark.parametrize("status", [200, 403, 404])
def test_200_403_and_404(stage, status):
    assert stage.on_response(accepting(stage), stage.response(JSON, LONG, status=status)) is not None


def test_length_at_the_minimum_is_compressed(stage):
    assert stage.on_response(accepting(stage), stage.response(JSON, "Content-Length: 256")) is not None


def test_html_always_and_everything_with_a_star(stage):
    assert stage.on_response(accepting(stage), stage.response("Content-Type: Text/HTML", LONG)) is not None
    stage.process = replace(stage.process, gzip=GzipPolicy(types=("*",)))
    assert stage.on_response(accepting(stage), stage.response("Content-Type: image/bmp", LONG)) is not None


def test_clients_that_do_not_get_it_still_see_that_it_varies(stage):
    requests = [
        stage.request(),
        accepting(stage, version="1.0"),
        accepting(stage, "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0)"),
    ]
    for request in requests:
        response = stage.response(JSON, LONG)
        assert stage.on_response(request, response) is None
        assert response.fields == [JSON.encode(), b"Vary: Accept-Encoding"]
        assert response.content_length == 1000


def test_head_is_left_alone(stage):
    assert stage.on_response(accepting(stage, method="HEAD"), stage.response(JSON, LONG)) is None


@pytest.mark.parametrize("vary", ["Vary: Origin, accept-encoding", "Vary: *"])
def test_vary_is_not_said_twice(stage, vary):
    response = stage.response(JSON, LONG, vary)
    stage.on_response(accepting(stage), response)
    assert [line for line in response.fields if line.lower().startswith(b"vary")] == [vary.encode()]


def test_another_vary_stays(stage):
    response = stage.response(JSON, LONG, "Vary: Origin")
    stage.on_response(accepting(stage), response)
    assert {b"Vary: Origin", b"Vary: Accept-Encoding"} <= set(response.fields)


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        ('ETag: "abc"', [b'ETag: W/"abc"']),
        ('etag: W/"abc"', [b'etag: W/"abc"']),
        ("ETag: abc", []),
    ],
)
def test_strong_etag_becomes_weak(stage, etag, expected):
    response = stage.response(JSON, LONG, etag)
    stage.on_response(accepting(stage), response)
    assert [line for line in response.fields if line.lower().startswith(b"etag")] == expected


def test_ranges_are_no_longer_offered(stage):
    response = stage.response(JSON, LONG, "Accept-Ranges: bytes")
    stage.on_response(accepting(stage), response)
    assert not any(line.lower().startswith(b"accept-ranges") for line in response.fields)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (None, False),
        (b"gzip", True),
        (b"deflate, GZIP;q=0.5, br", True),
        (b"x-gzip", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"gzip;q=0.001", True),
        (b"gzip;q=1.5x", False),
        (b"gzip;q=", False),
        (b"*", False),
        (b"gzipped", False),
        (b"", False),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
    ],
)
def test_accept_encoding_with_qualities(value, accepted):
    assert accepts_gzip(value) is accepted


def test_an_event_is_not_held_back():
    transform = GzipBody(1, length=None)
    reader = zlib.decompressobj(31)
    for number in range(5):
        event = b"data: %d\n\n" % number
        assert reader.decompress(transform.feed(event)) == event
    assert reader.decompress(transform.finish()) == b""
    assert reader.eof


@pytest.mark.parametrize("length", [0, 1, 250, 300, 5000, 40000, 100000])
def test_any_length_survives_a_small_window(length):
    body = bytes(number * 7 % 251 for number in range(length))
    transform = GzipBody(6, length=length)
    assert gzip.decompress(transform.feed(body) + transform.finish()) == body


def test_two_bodies_do_not_share_anything(stage):
    first = stage.on_response(accepting(stage), stage.response(JSON, LONG))
    second = stage.on_response(accepting(stage), stage.response(JSON, LONG))
    sent = [first.feed(b"a" * 500), second.feed(b"b" * 500)]
    assert gzip.decompress(sent[0] + first.finish()) == b"a" * 500
    assert gzip.decompress(sent[1] + second.finish()) == b"b" * 500
