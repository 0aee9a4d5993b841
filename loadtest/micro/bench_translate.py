"""Translation: from nothing, and one change among many Ingresses.

Run: python loadtest/micro/bench_translate.py [INGRESSES]
Every Ingress has a host of its own with two paths, a Service and an EndpointSlice; every tenth has a certificate.
Goal: one changed Ingress among 10,000 costs milliseconds.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ingressd.control.objects.event import ObjectEvent, ObjectKey
from ingressd.control.objects.kubernetes import (
    BriefMetadata,
    EndpointPort,
    EndpointSlice,
    HTTPIngressPath,
    HTTPIngressRuleValue,
    Ingress,
    IngressBackend,
    IngressClass,
    IngressClassSpec,
    IngressRule,
    IngressServiceBackend,
    IngressSpec,
    IngressTLS,
    Metadata,
    Secret,
    Service,
    ServiceBackendPort,
    ServicePort,
    ServiceSpec,
    SliceEndpoint,
    SliceLabels,
    SliceMetadata,
)
from ingressd.control.store.store import Store
from ingressd.control.translate.translator import Translator
from ingressd.model.secret import PrivateBytes
from ingressd.settings.config import CONTROLLER

PEMS = Path(__file__).parents[2] / "tests" / "golden" / "pems"
ROUNDS = 200


def key(kind: str, index: int) -> ObjectKey:
    """The key of the index-th object of a kind, in one of a hundred namespaces."""
    return ObjectKey(kind, f"team-{index % 100}", f"app-{index}")


def ingress(index: int, *, path: str = "/") -> Ingress:
    """An Ingress with two paths."""
    backend = IngressBackend(IngressServiceBackend(f"app-{index}", ServiceBackendPort(number=80)))
    paths = tuple(HTTPIngressPath(one, "Prefix", backend) for one in (path, "/api/v1"))
    host = f"app-{index}.example.com"
    spec = IngressSpec(
        ingress_class_name="ingressd",
        rules=(IngressRule(host, HTTPIngressRuleValue(paths)),),
        tls=(IngressTLS((host,), "cert"),) if index % 10 == 0 else (),
    )
    return Ingress(Metadata(name=f"app-{index}", namespace=f"team-{index % 100}"), spec)


def service(index: int, *, port: int = 80) -> Service:
    """A Service with one port."""
    metadata = BriefMetadata(name=f"app-{index}", namespace=f"team-{index % 100}")
    return Service(metadata, ServiceSpec(ports=(ServicePort(port),)))


def endpoint_slice(index: int, *, last: int = 1) -> EndpointSlice:
    """A slice with three endpoints."""
    return EndpointSlice(
        SliceMetadata(f"app-{index}", f"team-{index % 100}", SliceLabels(f"app-{index}")),
        "IPv4",
        tuple(SliceEndpoint((f"10.{one}.{index // 250}.{index % 250}",)) for one in (1, 2, last + 2)),
        (EndpointPort(port=8080),),
    )


def secret(namespace: str, name: str = "a.example") -> Secret:
    """A certificate."""
    data = {
        "tls.crt": PrivateBytes((PEMS / f"{name}.crt").read_bytes()),
        "tls.key": PrivateBytes((PEMS / f"{name}.key").read_bytes()),
    }
    return Secret(Metadata(name="cert", namespace=namespace), data=data)


def world(count: int) -> list[ObjectEvent]:
    """Everything."""
    found = [ObjectEvent(ObjectKey("IngressClass", "", "ingressd"), _class())]
    for index in range(count):
        found.append(ObjectEvent(key("Ingress", index), ingress(index)))
        found.append(ObjectEvent(key("Service", index), service(index)))
        found.append(ObjectEvent(key("EndpointSlice", index), endpoint_slice(index)))
    found += [
        ObjectEvent(ObjectKey("Secret", f"team-{index}", "cert"), secret(f"team-{index}"))
        for index in range(0, 100, 10)
    ]
    return found


def _class() -> IngressClass:
    return IngressClass(Metadata(name="ingressd"), IngressClassSpec(CONTROLLER))


def measure(what: str, store: Store, translator: Translator, *, change: Callable[[int], ObjectEvent]) -> None:
    """Apply and translate one change at a time; print p50 and p99 in milliseconds."""
    took: list[float] = []
    for turn in range(ROUNDS):
        event = change(turn)
        began = time.perf_counter()
        changed = store.apply([event])
        translation = translator.translate(store.snapshot(), changed)
        store.accept(translation.accepted)
        took.append((time.perf_counter() - began) * 1e3)
        if not translation.changed:
            raise SystemExit(f"{what}: nothing changed")
    ordered = sorted(took)
    print(f"{what:40} p50 {statistics.median(took):8.3f} ms   p99 {ordered[int(len(ordered) * 0.99)]:8.3f} ms")


def main() -> None:
    """Print one line a measurement."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    store, translator = Store(), Translator()
    began = time.perf_counter()
    store.apply(world(count))
    stored = time.perf_counter()
    translation = translator.translate(store.snapshot(), None)
    store.accept(translation.accepted)
    done = time.perf_counter()
    print(
        f"{count} Ingresses: store {(stored - began) * 1e3:.0f} ms, translate {(done - stored) * 1e3:.0f} ms, ", end=""
    )
    print(f"{len(translation.units)} units, {len(translation.problems)} problems")
    began = time.perf_counter()
    translator.translate(store.snapshot(), None)
    print(f"{'from nothing again, drafts remembered':40}     {(time.perf_counter() - began) * 1e3:8.0f} ms")
    # What the controller does after an apply: the objects that live long are none of the collector's business.
    gc.collect()
    gc.freeze()

    def of(index: int) -> int:
        return (index * 37) % count

    measure(
        "one Ingress of one host",
        store,
        translator,
        change=lambda turn: ObjectEvent(key("Ingress", of(turn)), ingress(of(turn), path=f"/{turn}")),
    )
    measure(
        "one EndpointSlice",
        store,
        translator,
        change=lambda turn: ObjectEvent(key("EndpointSlice", of(turn)), endpoint_slice(of(turn), last=turn % 200 + 2)),
    )
    measure(
        "one Service, its port renumbered",
        store,
        translator,
        change=lambda turn: ObjectEvent(key("Service", of(turn)), service(of(turn), port=81)),
    )
    measure(
        "one Secret of 100 Ingresses",
        store,
        translator,
        change=lambda turn: ObjectEvent(
            ObjectKey("Secret", "team-10", "cert"), secret("team-10", ("b.example", "a.example")[turn % 2])
        ),
    )
    change = msgspec.structs.replace(_class(), spec=IngressClassSpec("example.com/other"))
    began = time.perf_counter()
    changed = store.apply([ObjectEvent(ObjectKey("IngressClass", "", "ingressd"), change)])
    translation = translator.translate(store.snapshot(), changed)
    print(f"{'the class goes to another controller':40}     {(time.perf_counter() - began) * 1e3:8.0f} ms", end="")
    print(f", {len(translation.removed)} units removed")


if __name__ == "__main__":
    main()
