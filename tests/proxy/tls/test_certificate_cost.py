"""What certificates of a client will hold is known before, for usual ones and for those that are made to cost."""

from __future__ import annotations

import ctypes
import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from stage.crafted import COMMON_NAME, attribute, certificate, extension, sequence, value

from ingressd.proxy.tls.certificate_cost import MOST_BYTES, certificates_cost

KEY_ID, ALT_NAME, CONSTRAINTS, POINTS, ISSUER = (bytes((0x55, 0x1D, number)) for number in (14, 17, 30, 31, 35))
RESOURCES = b"\x2b\x06\x01\x05\x05\x07\x01"
POLICIES, ACCESS, TRANSPARENCY = b"\x55\x1d\x20", RESOURCES + b"\x01", b"\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x02"
EMPTY_NAME = b"\xa4\x02\x30\x00"
PRIVATE = b"\x06\x04\x2a\x82\x7f\x01"
FRAGMENT = sequence(value(0xA0, value(0xA1, sequence(COMMON_NAME, b"\x0c\x01a"))))
NUMBER = 250
"""Of what a crafted certificate is full of."""


def names(*parts: bytes) -> bytes:
    return certificate(extensions=extension(ALT_NAME, sequence(*parts)))


def public_key(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


RSA = public_key(rsa.generate_private_key(65537, 4096))


def usual(hosts: int = 2) -> bytes:
    """As a public authority makes them: RSA of 4096 bits, six parts of a name, nine extensions."""
    full = b"".join(attribute(text) for text in (b"US", b"California", b"San Francisco", b"Example Ltd.", b"Web", b"w"))
    uri = value(0x86, b"http://crl3.authority.example/Example-TLS-RSA-SHA256-2020-CA1-4.crl")
    extensions = (
        extension(ISSUER, sequence(value(0x80, b"k" * 20))),
        extension(KEY_ID, value(0x04, b"s" * 20)),
        extension(b"\x55\x1d\x0f", b"\x03\x02\x05\xa0"),
        extension(b"\x55\x1d\x13", b"\x30\x00"),
        extension(POINTS, sequence(*[sequence(value(0xA0, value(0xA0, uri)))] * 2)),
        extension(POLICIES, sequence(sequence(PRIVATE, sequence(sequence(PRIVATE, value(0x16, b"u" * 28)))))),
        extension(ACCESS, sequence(*[sequence(PRIVATE, uri)] * 2)),
        extension(ALT_NAME, sequence(*[value(0x82, b"www%03d.service.example.com" % n) for n in range(hosts)])),
        extension(TRANSPARENCY, value(0x04, b"t" * 360)),
    )
    return certificate(full, full, b"".join(extensions), public_key=RSA, signature=b"s" * 512)


CRAFTED = {
    "names of no byte": names(*[b"\x82\x00"] * NUMBER),
    "names of a byte": names(*[b"\x82\x01a"] * NUMBER),
    "names that are empty names": names(*[EMPTY_NAME] * NUMBER),
    "names that are names": names(*[value(0xA4, sequence(attribute(b"", PRIVATE)))] * NUMBER),
    "registered names": names(*[b"\x88\x03\x2a\x85\x7f"] * NUMBER),
    "other names": names(*[value(0xA0, PRIVATE, value(0xA0, b"\x0c\x00"))] * NUMBER),
    "addresses of X.400": names(*[b"\xa3\x00"] * NUMBER),
    "parties": names(*[value(0xA5, value(0xA1, b"\x0c\x00"))] * NUMBER),
    "entries of a name": certificate(subject=attribute(b"a", PRIVATE) * NUMBER),
    "entries of a known kind": certificate(subject=attribute(b"a") * NUMBER),
    "entries in one set": certificate(subject=value(0x31, *[sequence(PRIVATE, b"\x0c\x00")] * NUMBER)),
    "sets of nothing": certificate(subject=b"\x31\x00" * NUMBER),
    "entries of the issuer": certificate(issuer=attribute(b"", PRIVATE) * NUMBER),
    "a long name in Latin-1": certificate(subject=attribute(b"\xe9" * 3000, tag=0x14)),
    "a long name in two bytes each": certificate(subject=attribute(b"\x4e\x00" * 1500, tag=0x1E)),
    "extensions that nobody knows": certificate(
        extensions=b"".join(extension(b"\x2a\x82" + bytes((1 + n % 127, 1 + n // 127)), b"") for n in range(NUMBER))
    ),
    "policies": certificate(
        extensions=extension(
            POLICIES, sequence(*[sequence(value(6, b"\x2a" + bytes((1 + n % 127, n // 127)))) for n in range(NUMBER)])
        )
    ),
    "constraints": certificate(
        extensions=extension(CONSTRAINTS, sequence(value(0xA0, *[b"\x30\x02\x82\x00"] * NUMBER)))
    ),
    "constraints on names": certificate(
        extensions=extension(CONSTRAINTS, sequence(value(0xA0, *[sequence(EMPTY_NAME)] * NUMBER)))
    ),
    "prefixes": certificate(
        extensions=extension(
            RESOURCES + b"\x07",
            sequence(sequence(b"\x04\x02\x00\x01", sequence(*[b"\x03\x02\x00" + bytes((n,)) for n in range(NUMBER)]))),
        )
    ),
    "families of addresses": certificate(
        extensions=extension(
            RESOURCES + b"\x07",
            sequence(*[sequence(b"\x04\x03\x00\x01" + bytes((n,)), b"\x30\x03\x03\x01\x00") for n in range(NUMBER)]),
        )
    ),
    "autonomous systems": certificate(
        extensions=extension(RESOURCES + b"\x08", sequence(value(0xA0, sequence(*[b"\x02\x01\x05"] * NUMBER))))
    ),
    "points with an address": certificate(
        extensions=extension(POINTS, sequence(*[sequence(value(0xA0, value(0xA0, b"\x86\x01a")))] * NUMBER))
    ),
    "points with an empty issuer": certificate(
        extensions=extension(POINTS, sequence(*[sequence(value(0xA2, EMPTY_NAME))] * NUMBER))
    ),
    "issuers of the issuer": certificate(
        extensions=extension(ISSUER, sequence(value(0xA1, *[EMPTY_NAME] * NUMBER), b"\x82\x01\x01"))
    ),
    "a small one": certificate(b"", b""),
    "a small one of another kind": certificate(
        b"", b"", public_key=public_key(ed25519.Ed25519PrivateKey.generate()), signature=b"x"
    ),
    "a long key": certificate(public_key=public_key(rsa.generate_private_key(3, 8192))),
    "a usual one": usual(),
    "a usual one for many hosts": usual(100),
}


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)


def heap_bytes() -> int:
    found = mallinfo2()
    return found.uordblks + found.hblkhd


@pytest.fixture
def held():
    """A function from a certificate to what OpenSSL holds for it when it has looked at its extensions."""
    if mallinfo2 is None:
        pytest.skip("this C library does not say what it has given")
    mallinfo2.restype = Mallinfo2
    library = ctypes.CDLL(getattr(ssl._ssl, "__file__", None))
    pointer, copies = ctypes.c_void_p, 20
    library.d2i_X509.argtypes = (pointer, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long)
    library.d2i_X509.restype = pointer
    library.X509_check_purpose.argtypes = (pointer, ctypes.c_int, ctypes.c_int)
    library.X509_free.argtypes = (pointer,)

    def measured(der: bytes) -> float:
        def read() -> int:
            found = library.d2i_X509(None, ctypes.byref(ctypes.c_char_p(der)), len(der))
            assert found, "OpenSSL takes it"
            library.X509_check_purpose(found, -1, 0)
            return found

        library.X509_free(read())
        kept: list[int] = []
        before = heap_bytes()
        kept.extend(read() for _ in range(copies))
        grown = heap_bytes() - before
        for one in kept:
            library.X509_free(one)
        return grown / copies

    return measured


@pytest.mark.parametrize("case", CRAFTED)
def test_it_holds_no_more_than_it_is_said_to_cost(held, case) -> None:
    der = CRAFTED[case]
    cost = certificates_cost([der], most=10**9)
    # A little more is what the allocator makes of it.
    assert held(der) <= cost - len(der) + 512
    assert cost < 10**9


@pytest.mark.parametrize(
    "chain", [[certificate()], [usual(100)], [usual()] * 3], ids=["small", "many hosts", "with two intermediates"]
)
def test_usual_ones_are_taken(chain) -> None:
    assert certificates_cost(chain) <= MOST_BYTES


def test_many_small_ones_are_not(held) -> None:
    der = CRAFTED["a small one of another kind"]
    count = MOST_BYTES // int(held(der))
    assert certificates_cost([der] * (count + 1)) > MOST_BYTES


def test_a_name_that_is_copied_for_each_of_many_points_is_refused() -> None:
    relative = certificate(extensions=extension(POINTS, sequence(FRAGMENT)))
    assert certificates_cost([relative]) > MOST_BYTES
    # The same bytes elsewhere are nothing special.
    assert certificates_cost([certificate(extensions=extension(POLICIES, sequence(FRAGMENT)))]) <= MOST_BYTES
    critical = sequence(value(0x06, POINTS), b"\x01\x01\xff", value(0x04, sequence(FRAGMENT)))
    assert certificates_cost([certificate(extensions=critical)]) > MOST_BYTES


@pytest.mark.parametrize(
    "part",
    [
        b"\x30\x80\x00\x00",
        b"\x24\x03\x04\x01a",
        b"\x2c\x00",
        b"\x1f\x01\x00",
        b"\x04\x83\x00\x00\x01a",
        b"\x04\x05a",
        b"\x04\x81",
        b"\x04",
        b"\xff\xff",
    ],
    ids=bytes.hex,
)
def test_what_is_not_der_costs_too_much(part) -> None:
    assert certificates_cost([sequence(b"\x02\x01\x01", part)]) > MOST_BYTES
    assert certificates_cost([certificate(extensions=extension(ALT_NAME, part))]) > MOST_BYTES


def test_without_any_nothing_is_held() -> None:
    assert certificates_cost([]) == 0


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_have_a_cost(data: bytes) -> None:
    assert certificates_cost([data]) >= len(data)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_certificate_with_a_wrong_byte_has_a_cost(at: int, byte: int) -> None:
    der = bytearray(CRAFTED["a usual one"])
    der[at % len(der)] = byte
    assert certificates_cost([bytes(der)]) >= len(der)


@given(st.integers(1, 2000))
def test_a_piece_of_a_certificate_costs_too_much(size: int) -> None:
    whole = CRAFTED["a usual one"]
    assert certificates_cost([whole[: min(size, len(whole) - 1)]]) > MOST_BYTES
