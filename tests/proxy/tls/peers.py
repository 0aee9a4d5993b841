"""Both ends of a TLS connection in memory: a fake TCP transport, a scripted peer on its own BIOs, certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import Certificate, TlsHost, TlsPolicy
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.server import TlsServer
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.proxy.tls.transport import TlsShare

NOW_S = 1_800_000_000.0
DATE = b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\n"


class Authority:
    """A CA; without an issuer of its own it signs itself."""

    def __init__(self, name: str, issuer: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _common_name(name)
        self.certificate = _sign(
            self.name, self.key, issuer.name if issuer else self.name, issuer.key if issuer else self.key, ca=True
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM)

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """Certificate and key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(_common_name(names[0]), key, self.name, self.key, names=names)
        return certificate.public_bytes(Encoding.PEM), key_pem(key)

    def certificate_for(self, name: str, *names: str) -> Certificate:
        """The unit of a new pair for these names."""
        pem, key = self.issue(*names)
        return Certificate(name, Origin("Secret", "default", name), pem, PrivateBytes(key), names, NOW_S)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _sign(subject, key, issuer, issuer_key, *, names=(), ca=False):
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


class FakeLoop:
    """`call_soon` by hand: `turn` runs what was asked for before it."""

    def __init__(self) -> None:
        self.soon: deque = deque()

    def call_soon(self, callback, *args) -> None:
        self.soon.append((callback, args))

    def turn(self) -> None:
        for _ in range(len(self.soon)):
            callback, args = self.soon.popleft()
            callback(*args)


class FakeRaw:
    """A TCP transport. Bytes written are in `wire`; closing tells the protocol at the next `FakeLoop.turn`."""

    def __init__(self, protocol, loop: FakeLoop) -> None:
        self.protocol = protocol
        self.loop = loop
        self.writes: list[bytes] = []
        self.wire = bytearray()
        self.reading = True
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        assert data, "an empty write"
        self.writes.append(bytes(data))
        self.wire += data

    def take(self) -> bytes:
        data = bytes(self.wire)
        self.wire.clear()
        return data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name, default=None):
        return {"peername": ("192.0.2.1", 4711)}.get(name, default)

    def feed(self, data: bytes, step: int = 65536) -> None:
        """What the peer sent arrives, `step` bytes a read. Nothing arrives while reading is paused."""
        for at in range(0, len(data), step):
            if self.closed:
                return
            assert self.reading
            piece = data[at : at + step]
            buffer = self.protocol.get_buffer(-1)
            buffer[: len(piece)] = piece
            self.protocol.buffer_updated(len(piece))

    def feed_eof(self) -> None:
        """The peer's FIN, as uvloop hands it on."""
        if not self.closed and not self.protocol.eof_received():
            self.close()


class RecordingApp:
    """The protocol above."""

    def __init__(self) -> None:
        self.transport = None
        self.chunks: list[bytes] = []
        self.calls: list[str] = []
        self.lost: Exception | None = None
        self.keep_open = False
        self.on_data = None

    @property
    def received(self) -> bytes:
        return b"".join(self.chunks)

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.keep_open

    def connection_lost(self, exc) -> None:
        self.calls.append("lost")
        self.lost = exc

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


class Counters:
    def __init__(self) -> None:
        self.tls_handshakes = self.tls_resumed = self.tls_failures = 0


class Peer:
    """The other end, on OpenSSL with BIOs of its own."""

    def __init__(self, context: ssl.SSLContext, *, server_hostname=None, server_side=False, session=None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=server_hostname, session=session
        )
        self.done = False
        self.error: ssl.SSLError | None = None

    def step(self) -> None:
        if not self.done and self.error is None:
            try:
                self.tls.do_handshake()
                self.done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self.error = error

    def read(self) -> bytes:
        """All plaintext that came; an end of the stream ends it, too."""
        pieces = []
        while True:
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)

    def send(self, data: bytes) -> bytes:
        """The ciphertext of `data`."""
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self.outgoing.read()

    def close_notify(self) -> bytes:
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()


def client_context(version: ssl.TLSVersion | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A client that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def make_share(loop) -> TlsShare:
    return TlsShare(loop, memoryview(bytearray(65536)), counters=Counters(), date_line=lambda: DATE)


def make_store(
    certificates: dict[str, Certificate] | None = None,
    hosts: dict[str, str | None] | None = None,
    *,
    policy: TlsPolicy | None = None,
    secret: TicketSecret | None = None,
) -> TlsStore:
    """A store with these certificates by name, and these hosts with the names of their certificates."""
    store = TlsStore(clock=lambda: 0.0, secret=secret, libssl=LibSsl.open())
    refused = apply(store, certificates or {}, hosts or {}, policy=policy)
    assert refused == {}
    return store


def apply(store, certificates, hosts=None, *, removed=(), policy=None) -> dict[str, str]:
    return asyncio.run(
        store.apply(
            certificates={f"certificate/{name}": unit for name, unit in certificates.items()},
            hosts={f"tls/{host}": TlsHost(host, name) for host, name in (hosts or {}).items()},
            removed=removed,
            policy=policy,
        )
    )


class Connection:
    """A `TlsServer` and the client that talks to it."""

    def __init__(self, store, context: ssl.SSLContext, sni: str | None = "a.test", *, session=None, share=None) -> None:
        self.loop = FakeLoop() if share is None else share.loop
        self.share = share or make_share(self.loop)
        self.app = RecordingApp()
        self.lost: list[TlsServer] = []
        self.server = TlsServer(store, lambda _server: self.app, self.share, on_lost=self.lost.append)
        self.raw = FakeRaw(self.server, self.loop)
        self.server.connection_made(self.raw)
        self.peer = Peer(context, server_hostname=sni, session=session)

    def handshake(self, step: int = 65536) -> Connection:
        """Exchange flights until neither side has anything to say."""
        self.peer.step()
        while data := self.peer.outgoing.read():
            self.raw.feed(data, step)
            self.settle()
            self.peer.incoming.write(self.raw.take())
            self.peer.step()
        if self.peer.done:
            self.peer.incoming.write(self.raw.take())
        return self

    def settle(self) -> None:
        while self.loop.soon:
            self.loop.turn()

    def send(self, data: bytes, step: int = 65536) -> None:
        """The client sends plaintext."""
        self.raw.feed(self.peer.send(data), step)

    def receive(self) -> bytes:
        """What the client reads."""
        self.peer.incoming.write(self.raw.take())
        return self.peer.read()

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the certificate that the client got."""
        certificate = x509.load_der_x509_certificate(self.peer.tls.getpeercert(True))
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(extension.value.get_values_for_type(x509.DNSName))
