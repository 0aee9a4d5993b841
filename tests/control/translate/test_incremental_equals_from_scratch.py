"""Whatever the history, an incremental translation must say what one from nothing says of the same objects."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingressd.control.objects.event import ObjectEvent, ObjectKey, key_of_origin
from ingressd.control.objects.kubernetes import (
    ConfigMap,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    HTTPIngressPath,
    HTTPIngressRuleValue,
    Ingress,
    IngressBackend,
    IngressClass,
    IngressClassParameters,
    IngressClassSpec,
    IngressRule,
    IngressServiceBackend,
    IngressSpec,
    IngressTLS,
    Metadata,
    Secret,
    Service,
    ServiceAnnotations,
    ServiceBackendPort,
    ServiceMetadata,
    ServicePort,
    ServiceSpec,
    SliceEndpoint,
    SliceLabels,
    SliceMetadata,
    TypedLocalObjectReference,
)
from ingressd.control.objects.static import (
    Flags,
    NodeAddress,
    NodeAddresses,
    ProcessSettings,
    StaticClients,
    StaticEndpoint,
    StaticListener,
    StaticRoute,
    StaticTls,
    StaticUpstream,
)
from ingressd.control.store.store import Store, StoreView
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import Route, RoutePolicy, VirtualHost

PEMS = Path(__file__).parents[2] / "golden" / "pems"
PREFIX = "nginx.ingress.kubernetes.io/"
HOSTS = ["a.example", "x.wild.example", "*.wild.example", ""]
NAMESPACES = ["n1", "n2"]


def pem(name: str) -> bytes:
    return (PEMS / name).read_bytes()


backends = st.one_of(
    st.builds(
        lambda name, port: IngressBackend(IngressServiceBackend(name, port)),
        st.sampled_from(["s1", "s2"]),
        st.sampled_from([ServiceBackendPort(number=80), ServiceBackendPort(name="web")]),
    ),
    st.just(IngressBackend(resource=TypedLocalObjectReference("x", "Bucket", "b"))),
)
paths = st.builds(
    HTTPIngressPath,
    path=st.sampled_from(["/", "/a", "/a/", "/.well-known/acme-challenge/x", "broken"]),
    path_type=st.sampled_from(["Exact", "Prefix", "Prefix", "ImplementationSpecific"]),
    backend=backends,
)
rules = st.builds(
    IngressRule,
    host=st.sampled_from(HOSTS),
    http=st.one_of(st.none(), st.lists(paths, min_size=1, max_size=2).map(lambda p: HTTPIngressRuleValue(tuple(p)))),
)
tls = st.builds(
    IngressTLS,
    hosts=st.lists(st.sampled_from(HOSTS[:3]), max_size=2).map(tuple),
    secret_name=st.sampled_from(["", "t1", "t2"]),
)
annotations = st.sampled_from(
    [
        {},
        {},
        {},
        {PREFIX + "auth-url": "x"},
        {PREFIX + "server-snippet": "x"},
        {PREFIX + "canary": "true"},
        {PREFIX + "nonsense": "x"},
        {PREFIX + "whitelist-source-range": "10.0.0.0/8"},
        {PREFIX + "denylist-source-range": "nonsense"},
        {"kubernetes.io/ingress.class": "ingressd"},
        {PREFIX + "auth-tls-secret": "n1/t1"},
        {PREFIX + "auth-tls-secret": "n1/t2", PREFIX + "auth-tls-verify-client": "optional"},
        {PREFIX + "auth-tls-secret": "n2/t1", PREFIX + "server-snippet": "x"},
        {PREFIX + "auth-tls-secret": "n1/t1", PREFIX + "auth-tls-verify-client": "off"},
    ]
)


@st.composite
def ingresses(draw: st.DrawFn) -> tuple[ObjectKey, Any]:
    namespace, name = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from(["i1", "i2"]))
    metadata = Metadata(
        name=name,
        namespace=namespace,
        creation_timestamp=draw(st.sampled_from([None, datetime(2026, 1, 1, tzinfo=UTC)])),
        annotations=draw(annotations),
    )
    spec = IngressSpec(
        ingress_class_name=draw(st.sampled_from(["ingressd", "ingressd", "ingressd", "other", None])),
        default_backend=draw(st.one_of(st.none(), st.none(), backends)),
        rules=tuple(draw(st.lists(rules, max_size=3))),
        tls=tuple(draw(st.lists(tls, max_size=2))),
    )
    return ObjectKey("Ingress", namespace, name), Ingress(metadata, spec)


@st.composite
def services(draw: st.DrawFn) -> tuple[ObjectKey, Any]:
    namespace, name = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from(["s1", "s2"]))
    spec = ServiceSpec(
        type=draw(st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"])),
        external_name="10.0.0.9",
        ports=tuple(draw(st.lists(st.sampled_from([ServicePort(80), ServicePort(8080, "web")]), max_size=2))),
        session_affinity=draw(st.sampled_from(["None", "ClientIP"])),
        cluster_ip=draw(st.sampled_from(["10.0.0.1", "10.0.0.2"])),
    )
    metadata = ServiceMetadata(
        name=name,
        namespace=namespace,
        annotations=ServiceAnnotations(
            path=draw(st.sampled_from([None, None, "/healthz", "no path"])),
            interval=draw(st.sampled_from([None, "1s", "often"])),
            max_requests=draw(st.sampled_from([None, None, "5", "many"])),
            max_pending=draw(st.sampled_from([None, "5", "many"])),
        ),
    )
    return ObjectKey("Service", namespace, name), Service(metadata, spec)


@st.composite
def slices(draw: st.DrawFn) -> tuple[ObjectKey, Any]:
    namespace, name = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from(["e1", "e2"]))
    labels = SliceLabels(draw(st.sampled_from(["", "s1", "s2"])))
    conditions = st.builds(EndpointConditions, ready=st.sampled_from([None, False]), terminating=st.booleans())
    endpoint = st.builds(
        SliceEndpoint, addresses=st.sampled_from([("10.0.0.1",), ("10.0.0.2",)]), conditions=conditions
    )
    one = EndpointSlice(
        SliceMetadata(name=name, namespace=namespace, labels=labels),
        draw(st.sampled_from(["IPv4", "FQDN"])),
        tuple(draw(st.lists(endpoint, max_size=2))),
        (EndpointPort(name=draw(st.sampled_from(["", "web"])), port=8080),),
    )
    return ObjectKey("EndpointSlice", namespace, name), one


@st.composite
def secrets(draw: st.DrawFn) -> tuple[ObjectKey, Any]:
    namespace, name = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from(["t1", "t2"]))
    cert, key = draw(st.sampled_from(["a.example", "wild.example"])), draw(st.sampled_from(["a.example", "default"]))
    data = {"tls.crt": PrivateBytes(pem(f"{cert}.crt")), "tls.key": PrivateBytes(pem(f"{key}.key"))}
    data |= draw(st.sampled_from([{}, {"ca.crt": PrivateBytes(pem("default.crt"))}, {"ca.crt": PrivateBytes(b"x")}]))
    return ObjectKey("Secret", namespace, name), Secret(Metadata(name=name, namespace=namespace), data=data)


@st.composite
def others(draw: st.DrawFn) -> tuple[ObjectKey, Any]:
    default = {"ingressclass.kubernetes.io/is-default-class": "true"}
    classes = [
        (
            ObjectKey("IngressClass", "", name),
            IngressClass(Metadata(name=name, annotations=marks), IngressClassSpec(controller, parameters)),
        )
        for name in ("ingressd", "other")
        for marks in ({}, default)
        for controller in ("ingressd.dev/ingress-controller", "example.com/other")
        for parameters in (
            None,
            IngressClassParameters("", "ConfigMap", "p", "n1", "Namespace"),
            IngressClassParameters("x", "Tuning", "p"),
        )
    ]
    tuning = [
        (ObjectKey("ConfigMap", "n1", "p"), ConfigMap(Metadata(name="p", namespace="n1"), values))
        for values in (
            {},
            {"proxy-body-size": "3m"},
            {"proxy-body-size": "nonsense", "keep-alive": "1"},
            {"whitelist-source-range": "10.0.0.0/8"},
            {"whitelist-source-range": "nonsense"},
        )
    ]
    flags = [
        (ObjectKey("Flags", "", "flags"), Flags(values))
        for values in (
            {},
            {"default-backend-service": "n1/s1"},
            {"default-ssl-certificate": "n1/t1"},
            {"disable-catch-all": "true", "watch-namespace": "n1"},
            {"disable-svc-external-name": "false", "publish-status-address": "10.1.1.1"},
            {"watch-ingress-without-class": "true"},
            {"publish-service": "n1/s1"},
            {"report-node-internal-ip-address": "true"},
        )
    ]
    process = [
        (ObjectKey("ProcessSettings", "", "settings"), ProcessSettings(values=values, config_map="n1/c"))
        for values in ({}, {"load-balance": "ewma"}, {"proxy-body-size": "nonsense"}, {"proxy-body-size": "2m"})
    ]
    maps = [
        (ObjectKey("ConfigMap", "n1", "c"), ConfigMap(Metadata(name="c", namespace="n1"), values))
        for values in ({}, {"no-tls-redirect-locations": "/a"}, {"block-cidrs": "10.0.0.0/8"}, {"add-headers": "n1/p"})
    ]
    certs = [
        (
            ObjectKey("StaticTls", "", "c.crt"),
            StaticTls("c.crt", hosts, pem(f"{cert}.crt"), PrivateBytes(pem(key)), clients),
        )
        for hosts in ((), ("a.example",))
        for clients in (None, StaticClients(ca_pem=pem("default.crt")), StaticClients(fault="cannot be read"))
        for cert, key in (("a.example", "a.example.key"), ("wild.example", "a.example.key"))
    ]
    static = [
        (ObjectKey("StaticRoute", "", "r"), StaticRoute("a.example", "/a", "Prefix", "u")),
        (ObjectKey("StaticRoute", "", "q"), StaticRoute("", "/", "Exact", "v")),
        (ObjectKey("StaticUpstream", "", "u"), StaticUpstream("u", (StaticEndpoint("h", 1, addresses=()),))),
        (ObjectKey("StaticUpstream", "", "u"), StaticUpstream("u", (StaticEndpoint("h", 1, addresses=("10.1.1.1",)),))),
        (ObjectKey("StaticListener", "", "l"), StaticListener("l", "127.0.0.1", 80, "HTTP")),
    ]
    nodes = [
        (ObjectKey("NodeAddresses", "", "nodes"), NodeAddresses(found))
        for found in (None, (), (NodeAddress("n", ("192.0.2.1",), ("10.0.0.1",)),))
    ]
    return draw(st.sampled_from(classes + tuning + flags + process + maps + certs + static + nodes))


objects = st.one_of(ingresses(), ingresses(), ingresses(), services(), slices(), secrets(), others())
events = st.tuples(objects, st.sampled_from([False, False, True])).map(
    lambda pair: (pair[0][0], None if pair[1] else pair[0][1])
)
batches = st.lists(st.lists(events, min_size=1, max_size=6, unique_by=lambda event: event[0]), min_size=1, max_size=8)
OURS = (
    ObjectKey("IngressClass", "", "ingressd"),
    IngressClass(Metadata(name="ingressd"), IngressClassSpec("ingressd.dev/ingress-controller")),
)


def open_without_their_parameters(view: StoreView, translation: Translation) -> list[Route]:
    """The routes that serve although the parameters of their class cannot be read. There must be none."""
    found = []
    for unit in translation.units.values():
        for route in unit.routes if isinstance(unit, VirtualHost) else ():
            ingress = view.get(key_of_origin(route.origin))
            name = ingress.spec.ingress_class_name if isinstance(ingress, Ingress) else None
            of = view.find(IngressClass, name=name) if name else None
            parameters = of.spec.parameters if of else None
            if parameters is None:
                continue
            key = ObjectKey(parameters.kind, parameters.namespace, parameters.name)
            policy = translation.units[f"policy/{route.policy}"]
            if view.get(key) is None and not (isinstance(policy, RoutePolicy) and policy.failed_closed):
                found.append(route)
    return found


def open_without_certificates(translation: Translation) -> list[Route]:
    """The routes of objects that ask for client certificates, on hosts that ask for none. There must be none."""
    units = translation.units
    found = []
    for unit in units.values():
        for route in unit.routes if isinstance(unit, VirtualHost) else ():
            policy = units[f"policy/{route.policy}"]
            asks = isinstance(policy, RoutePolicy) and policy.client_certificates
            if asks and f"clients/{unit.host}" not in units:
                found.append(route)
    return found


def check(history: list[list[tuple[ObjectKey, Any]]]) -> None:
    store, translator = Store(), Translator()
    kept: dict[str, Any] = {}
    statuses: dict[ObjectKey, Any] = {}
    for batch in [[OURS], *history]:
        live = [ObjectEvent(key, value) for key, value in batch if value is not None or store.get(key) is not None]
        changed = store.apply(live)
        view = store.snapshot()
        translation = translator.translate(view, changed)
        for key in translation.removed:
            del kept[key]
        kept.update(translation.changed)
        assert kept == translation.units, "the changes do not add up to the snapshot"
        statuses.update({key: translation.statuses.get(key) for key in translation.told})
        told = {key: status for key, status in statuses.items() if status is not None}
        assert told == translation.statuses, "a status changed and nobody was told"
        scratch = Translator().translate(view, None)
        assert scratch.units == translation.units
        assert scratch.problems == translation.problems
        assert scratch.statuses == translation.statuses
        assert not open_without_their_parameters(view, translation)
        assert not open_without_certificates(translation)
        again = translator.translate(view, frozenset())
        assert (again.changed, again.removed) == ({}, ()), "nothing changed"
        store.accept(translation.accepted)


PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@settings(max_examples=60, **PATIENT)
@given(batches)
def test_incremental_equals_from_scratch(history: list[list[tuple[ObjectKey, Any]]]) -> None:
    check(history)


@pytest.mark.slow
@settings(max_examples=1500, **PATIENT)
@given(batches)
def test_incremental_equals_from_scratch_at_length(history: list[list[tuple[ObjectKey, Any]]]) -> None:
    check(history)
