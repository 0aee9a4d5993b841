"""A secret shows in no repr, no JSON, no traceback and no golden, whatever value holds it."""

from __future__ import annotations

import base64
import re
import traceback
from pathlib import Path

import msgspec
import pytest

from ingressd.control.objects.decode import DecodeError, decode_json, decode_value
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import BriefMetadata, Secret
from ingressd.control.objects.static import StaticAdmission, StaticTls, StaticUpstreamTls
from ingressd.control.sources.cluster.snapshot_format import Entry
from ingressd.model.codec import Delta, Units, decode_unit, encode_unit, to_json
from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes, without_keys
from ingressd.model.units import Certificate, Upstream, UpstreamTls
from ingressd.proxy.tls.contexts import webhook_context
from ingressd.proxy.tls.tickets import TicketSecret

GOLDENS = Path(__file__).parents[1] / "golden"
WORD = b"hunter2-hunter2-hunter2"
KEY = PrivateBytes(WORD)
SECRET = Secret(BriefMetadata("a", "shop"), data={"tls.key": KEY})
ORIGIN = Origin("Secret", "shop", "a")
CERTIFICATE = Certificate("shop/a", ORIGIN, b"PEM", KEY, (), 0.0)
UPSTREAM = Upstream("up", ORIGIN, tls=UpstreamTls(cert_pem=b"PEM", key_pem=KEY))
HOLDERS = (
    KEY,
    SECRET,
    StaticTls("a", (), b"PEM", KEY),
    StaticAdmission("::", 9443, b"PEM", KEY),
    StaticUpstreamTls(key_pem=KEY),
    CERTIFICATE,
    UPSTREAM,
    Units.of({"certificate/shop/a": CERTIFICATE, "upstream/up": UPSTREAM}),
    Delta(1, 0, {"certificate/shop/a": msgspec.Raw(encode_unit(CERTIFICATE))}),
    TicketSecret(1, WORD),
    Entry(ObjectKey("Secret", "shop", "a"), SECRET, False),
)
PEM = b"-----BEGIN %s-----\nQUJD\n-----END %s-----\n"
CERT_BLOCK = PEM % (b"CERTIFICATE", b"CERTIFICATE")


def hides(text: str) -> bool:
    found = (WORD, *(base64.b64encode(WORD[skipped:])[:24] for skipped in range(3)))
    return not any(spelling.decode() in text for spelling in found)


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_no_repr_shows_it(holder):
    assert hides(f"{holder!r} {holder} {[holder]}")


@pytest.mark.parametrize("holder", [KEY, CERTIFICATE, UPSTREAM], ids=lambda holder: type(holder).__name__)
def test_json_says_that_it_is_redacted_and_the_wire_keeps_it(holder):
    text = to_json(holder).decode()
    assert hides(text)
    assert "[redacted]" in text
    assert holder is KEY or decode_unit(encode_unit(holder)) == holder


def test_other_encoders_refuse_it():
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError):
            encode(SECRET)


@pytest.mark.parametrize(
    "fails",
    [
        lambda: decode_unit(encode_unit(CERTIFICATE)[:-4]),
        lambda: decode_unit(encode_unit(CERTIFICATE).replace(b"\xa7key_pem", b"\xa7kez_pem")),
        lambda: decode_value("Secret", {"metadata": {"name": "a"}, "data": {"x": WORD.decode() + "!"}}),
        lambda: decode_value("Secret", {"metadata": {"name": "a"}, "data": WORD.decode()}),
        lambda: decode_value("Secret", {"metadata": {"name": "a"}, "data": {"x": [WORD.decode()]}}),
        lambda: decode_value("Secret", {"metadata": {"name": "a"}, "stringData": WORD.decode()}),
        lambda: decode_value("Secret", {"metadata": {"name": "a"}, "stringData": {"x": [WORD.decode()]}}),
        lambda: decode_json("Secret", b'{"metadata": {"name": "a"}, "data": {"x": "' + WORD),
        lambda: decode_json("Secret", b'{"metadata": {"name": "a"}, "data": {"x": "\xff' + WORD + b'"}}'),
        lambda: webhook_context(b"PEM", KEY),
        lambda: TicketSecret.decode(WORD),
    ],
)
def test_no_traceback_quotes_it(fails):
    with pytest.raises((DecodeError, ValueError, TypeError, msgspec.MsgspecError)) as caught:
        fails()
    assert hides("".join(traceback.format_exception(caught.value)))


def test_what_kubectl_apply_leaves_in_an_annotation_is_not_kept():
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": WORD.decode()}
    _, secret = decode_value("Secret", {"metadata": {"name": "a", "annotations": annotations}, "data": {}})
    assert hides(repr(secret))


@pytest.mark.parametrize(
    ("pem", "left"),
    [
        (CERT_BLOCK, CERT_BLOCK),
        (CERT_BLOCK + PEM % (b"PRIVATE KEY", b"PRIVATE KEY"), CERT_BLOCK),
        (PEM % (b"RSA PRIVATE KEY", b"RSA PRIVATE KEY") + CERT_BLOCK, CERT_BLOCK),
        (PEM % (b"ENCRYPTED PRIVATE KEY", b"ENCRYPTED PRIVATE KEY") + CERT_BLOCK * 2, CERT_BLOCK * 2),
        (
            (CERT_BLOCK + PEM % (b"EC PRIVATE KEY", b"EC PRIVATE KEY")).replace(b"\n", b"\r\n"),
            CERT_BLOCK.replace(b"\n", b"\r\n"),
        ),
        (CERT_BLOCK + b"-----BEGIN PRIVATE KEY-----\nQUJD", CERT_BLOCK),
        (b"", b""),
    ],
)
def test_certificates_are_left_and_keys_are_not(pem, left):
    assert without_keys(pem) == left


def test_no_golden_holds_a_key():
    # "-----BEGIN … PRIVATE KEY" as it is, and as base64 at any offset.
    shows = re.compile(rb"PRIVATE KEY|UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW|MIG[HT]Ag|MII[EJ][a-zA-Z0-9]{2}IBA")
    goldens = list(GOLDENS.glob("*/*.out.json"))
    assert any(b"[redacted]" in golden.read_bytes() for golden in goldens)
    assert [str(golden) for golden in goldens if shows.search(golden.read_bytes())] == []
