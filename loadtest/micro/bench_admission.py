"""The admission webhook: one change checked among many Ingresses, and the whole review over a kept HTTPS connection.

Run: python -m loadtest.micro.bench_admission [INGRESSES]
The world is that of bench_translate.py: every Ingress has a host of its own with two paths. Reviewed in turn are a good
update, a conflict, and an Ingress of 50 paths; last, a world whose Ingresses all share one host.
Goal: at most 5 ms against 10,000 objects.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import ssl
import statistics
import sys
import time
from collections.abc import Callable

import msgspec
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ingressd.control.admission.listener import PATH, AdmissionListener
from ingressd.control.admission.review import review
from ingressd.control.objects.decode import decode_value
from ingressd.control.objects.event import ObjectEvent
from ingressd.control.objects.kubernetes import Ingress
from ingressd.control.store.store import Store, StoreView
from ingressd.control.translate.translator import Translator
from ingressd.model.problem import Problem
from ingressd.model.secret import PrivateBytes
from ingressd.proxy.tls.contexts import webhook_context
from ingressd.supervise.sockets import open_listener
from loadtest.micro.bench_translate import ingress, key, world

ROUNDS = 2000


def written(name: str, namespace: str, *paths: tuple[str, str], service: str) -> dict[str, object]:
    """An Ingress as an API server sends it; paths are (host, path)."""
    backend = {"service": {"name": service, "port": {"number": 80}}}
    rules = [
        {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
        for host, path in paths
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ingressClassName": "ingressd", "rules": rules},
    }


def review_of(found: dict[str, object]) -> bytes:
    """The AdmissionReview of an update."""
    request = {
        "uid": "00000000-0000-0000-0000-000000000001",
        "operation": "UPDATE",
        "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
        "object": found,
        "oldObject": found,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def say(what: str, took_s: list[float]) -> None:
    """p50, p99 and the worst in milliseconds."""
    ordered = sorted(took_s)
    p50, p99, worst = statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]
    print(f"{what:58} p50 {p50 * 1e3:7.3f} ms   p99 {p99 * 1e3:7.3f} ms   worst {worst * 1e3:7.3f} ms")


def on_one_host(count: int) -> list[ObjectEvent]:
    """The same world with every Ingress a path of one host."""
    events = []
    for event in world(count):
        found = event.object
        if isinstance(found, Ingress):
            rule = found.spec.rules[0]
            assert rule.http is not None
            path = msgspec.structs.replace(rule.http.paths[0], path=f"/{found.metadata.name}")
            http = msgspec.structs.replace(rule.http, paths=(path,))
            one = msgspec.structs.replace(rule, host="one.example.com", http=http)
            spec = msgspec.structs.replace(found.spec, rules=(one,), tls=())
            event = ObjectEvent(event.key, msgspec.structs.replace(found, spec=spec))
        events.append(event)
    return events


def translated(events: list[ObjectEvent]) -> tuple[Translator, StoreView]:
    """A live book."""
    store, translator = Store(), Translator()
    store.apply(events)
    view = store.snapshot()
    translator.translate(view, None)
    gc.collect()
    gc.freeze()
    return translator, view


def measure(what: str, translator: Translator, view: StoreView, make: Callable[[int], dict[str, object]]) -> None:
    """The check alone, in CPU time: it waits for nothing, and the machine may be busy."""
    took: list[float] = []
    errors = 0
    for turn in range(ROUNDS):
        _, found = decode_value("Ingress", make(turn))
        assert isinstance(found, Ingress)
        began = time.process_time()
        problems = translator.check(view, found)
        took.append(time.process_time() - began)
        errors += any(problem.severity == "error" for problem in problems)
    say(f"check: {what} ({errors * 100 // ROUNDS} % denied)", took)


def self_signed() -> tuple[bytes, bytes]:
    """A throw-away pair as PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(private, hashes.SHA256()).public_bytes(pem), secret


async def round_trips(translator: Translator, view: StoreView, make: Callable[[int], dict[str, object]]) -> None:
    """The whole review over one kept connection; client and webhook share this process and its core."""

    def check(found: Ingress) -> tuple[Problem, ...]:
        return translator.check(view, found)

    listener = AdmissionListener(check, answered=lambda *_: None, clock=time.monotonic)
    cert, secret = self_signed()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with open_listener("127.0.0.1", 0) as listening:
        await listener.serve(listening, webhook_context(cert, PrivateBytes(secret)))
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.getsockname()[1], ssl=context)
        took: list[float] = []
        for turn in range(ROUNDS):
            body = review_of(make(turn))
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            began = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"unexpected answer: {answer!r}")
        say("HTTPS round trip, kept connection: a good update", took)
        writer.transport.abort()
        await listener.close()


def main() -> None:
    """Print one line a measurement."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    translator, view = translated(world(count))
    print(f"{view.count(Ingress)} Ingresses, {ROUNDS} rounds each")

    def good(turn: int) -> dict[str, object]:
        index = (turn * 37) % count
        own = key("Ingress", index)
        assert ingress(index).metadata.name == own.name
        return written(own.name, own.namespace, (f"{own.name}.example.com", f"/{turn}"), service=own.name)

    def conflict(turn: int) -> dict[str, object]:
        other = key("Ingress", (turn * 37 + 1) % count)
        return written("new", other.namespace, (f"{other.name}.example.com", "/"), service=other.name)

    def many(turn: int) -> dict[str, object]:
        hosts = [(f"app-{(turn + place) % count}.example.com", f"/new/{place}") for place in range(50)]
        return written("new", "team-0", *hosts, service="app-0")

    measure("a good update", translator, view, good)
    measure("a conflict", translator, view, conflict)
    measure("50 hosts", translator, view, many)
    took: list[float] = []
    for turn in range(ROUNDS):
        body = review_of(good(turn))
        began = time.process_time()
        review(body, lambda found: translator.check(view, found))
        took.append(time.process_time() - began)
    say("review: decode, check, encode: a good update", took)
    uvloop.run(round_trips(translator, view, good))
    shared, shared_view = translated(on_one_host(count))
    measure(
        "one host of all, a conflict",
        shared,
        shared_view,
        lambda turn: written("new", "team-0", ("one.example.com", f"/app-{turn % count}"), service="app-0"),
    )


if __name__ == "__main__":
    main()
