"""nginx's path and host forms: what is equal must look equal, what is broken must be refused."""

import posixpath
from urllib.parse import unquote_to_bytes

import pytest
from cases.raw_judge import within
from hypothesis import given, settings
from hypothesis import strategies as st

from ingressd.proxy.routing.normalise import normalise_host, normalise_path


@pytest.mark.parametrize(
    "path", [b"/", b"/a", b"/a/", b"/a/b.c", b"/a..b", b"/a/b;c=1", b"/\xe4\xbd\xa0", b"/a+b", b"/a?"]
)
def test_a_normal_path_is_the_same_object(path: bytes) -> None:
    assert normalise_path(path) is path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", b"/"),
        (b"//uuid", b"/uuid"),
        (b"///", b"/"),
        (b"/a///b//", b"/a/b/"),
        (b"/./uuid", b"/uuid"),
        (b"/.", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/ip/abc/../../uuid", b"/uuid"),
        (b"/a//../b", b"/b"),
        (b"/uu%69d", b"/uuid"),
        (b"/foo%2Fbar/x", b"/foo/bar/x"),
        (b"/foo%2fbar", b"/foo/bar"),
        (b"/%2e%2e%2fa/..", None),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a/.%2e/b", b"/b"),
        (b"/a%2F..%2Fb", b"/b"),
        (b"/%252e%252e/b", None),
        (b"/a/..%5cb", None),
        (b"/a/%2e%2e%5Cb", None),
        (b"/a/.;/../b", None),
        (b"/a/..;x=1/b", None),
        (b"/a/..%3bx/b", None),
        (b"/a/..%252fb", None),
        (b"/a/%25252e%25252e/b", None),
        (b"/.;/b", None),
        (b"/a/..%2500", None),
        (b"/a;x/../b", b"/b"),
        (b"/a%25/../b", b"/b"),
        (b"/a;x/./b%25", b"/a;x/b%"),
        (b"/a/;x/../b", None),
        (b"/a/b%5Cc/../d", None),
        (b"/a/b%252fc/../d", None),
        (b"/a;x=1/b", b"/a;x=1/b"),
        (b"/a%3Bx/b", b"/a;x/b"),
        (b"/a%5Cb", b"/a\\b"),
        (b"/%2561", b"/%61"),
        (b"/100%25/..x/...", b"/100%/..x/..."),
        (b"/a%5C.b", b"/a\\.b"),
        (b"/%3F", b"/?"),
        (b"/a%23b", b"/a#b"),
        (b"/a#/../b", b"/a"),
        (b"/%E4%BD%A0", b"/\xe4\xbd\xa0"),
        (b"/.well-known/acme", b"/.well-known/acme"),
        (b"/a/..b/...", b"/a/..b/..."),
        (b"/a%25", b"/a%"),
    ],
)
def test_forms_that_are_one(raw: bytes, path: bytes | None) -> None:
    if path is None:
        with pytest.raises(ValueError, match=r"host|path"):
            normalise_path(raw)
    else:
        assert normalise_path(raw) == path


@pytest.mark.parametrize(
    "raw",
    [
        b"/..",
        b"/../x",
        b"/a/../../x",
        b"/%2e%2e",
        b"/%2e%2e/x",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%4g",
        b"/%+1",
        b"/% 1",
        b"/a%00",
        b"/a\0b",
        b"*",
        b"a",
        b"http://h/",
    ],
)
def test_what_nginx_answers_400_to(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"host|path"):
        normalise_path(raw)


@given(
    st.lists(st.sampled_from([b"/", b"a", b".", b"..", b"%2e", b"%2F", b"%61", b"b"]), max_size=12).map(
        lambda p: b"/" + b"".join(p)
    )
)
def test_agrees_with_a_posix_path_and_is_stable(raw: bytes) -> None:
    decoded = unquote_to_bytes(raw)
    try:
        got = normalise_path(raw)
    except ValueError:
        # A root that can be climbed above is the only way to fail with this alphabet.
        assert posixpath.normpath(b"/\xff/" + decoded.lstrip(b"/")) != b"/\xff" + posixpath.normpath(decoded).rstrip(
            b"/"
        )
        return
    assert got.rstrip(b"/") == posixpath.normpath(b"/" + decoded.lstrip(b"/")).rstrip(b"/")
    assert b"//" not in got and b"/./" not in got and b"/../" not in got
    assert normalise_path(got) == got


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"foo.bar", b"foo.bar"),
        (b"FOO.Bar", b"foo.bar"),
        (b"foo.bar:1234", b"foo.bar"),
        (b"foo.bar:", b"foo.bar"),
        (b"foo.bar.", b"foo.bar"),
        (b"Foo.bar.:80", b"foo.bar"),
        (b"127.0.0.1", b"127.0.0.1"),
        (b"127.0.0.1:80", b"127.0.0.1"),
        (b"[::1]", b"[::1]"),
        (b"[FE80::1]:8080", b"[fe80::1]"),
        (b"", b""),
    ],
)
def test_host_forms_that_are_one(raw: bytes, host: bytes) -> None:
    assert normalise_host(raw) == host


@pytest.mark.parametrize(
    "raw", [b"a:b", b"a:1:2", b"[::1", b"[::1]x", b"a..b", b"a..", b".", b".a", b":80", b"..", b"a:80:"]
)
def test_what_is_no_host(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"host|path"):
        normalise_host(raw)


SLASHES = ["/", "/", "%2f", "%5c", "%255c"]
DOTS = [".", "..", "%2e", "%2E%2e", "%252e", "%25252e", ".;", "..;"]
OTHERS = ["public", "admin", ";", "%3b", "%253b", ";a=b", "a", "%25", "%", "%61", "%00", "%2500"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(SLASHES + DOTS + OTHERS), max_size=8))
def test_nobody_leaves_a_prefix_however_others_read_the_path(pieces: list[str]) -> None:
    raw = "/public/" + "".join(pieces)
    try:
        path = normalise_path(raw.encode())
    except ValueError:
        return
    if path.startswith(b"/public/"):
        assert within(raw, "/public")
