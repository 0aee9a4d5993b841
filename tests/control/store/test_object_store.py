"""The store: what changed, what was good, who names whom; views stay what they were."""

import msgspec

from ingressd.control.objects.decode import decode_value
from ingressd.control.objects.event import ObjectEvent, Position
from ingressd.control.objects.kubernetes import EndpointSlice, Ingress, Service
from ingressd.control.store.store import Store


def made(kind, name, *, namespace="default", **rest):
    key, value = decode_value(
        kind, {"metadata": {"name": name, "namespace": namespace, **rest.pop("metadata", {})}, **rest}
    )
    return ObjectEvent(key, value)


def ingress(name, service="", *, secret="", **metadata):
    paths = [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": service}}}]
    spec = {"rules": [{"http": {"paths": paths}}], "tls": [{"secretName": secret}]}
    return made("Ingress", name, spec=spec, metadata=metadata)


def slice_of(name, service):
    return made("EndpointSlice", name, metadata={"labels": {"kubernetes.io/service-name": service}})


def gone(event):
    return ObjectEvent(event.key, None)


def test_only_what_really_changed_is_named():
    store = Store()
    event = ingress("a", "s")
    assert store.apply([event]) == {event.key}
    assert store.apply([event]) == frozenset()
    assert store.apply([ingress("a", "s")]) == frozenset()
    assert store.apply([ingress("a", "t")]) == {event.key}
    assert store.apply([gone(event)]) == {event.key}
    assert store.apply([gone(event)]) == frozenset()


def test_a_new_resource_version_is_kept_and_is_no_change():
    store = Store()
    store.apply([ingress("a", "s", resourceVersion="1", generation=1)])
    event = ingress("a", "s", resourceVersion="2", generation=2)
    assert store.apply([event]) == frozenset()
    assert store.get(event.key).metadata.resource_version == "2"
    assert store.apply([ingress("a", "s", resourceVersion="3", annotations={"a": "b"})]) == {event.key}


def test_a_status_of_an_ingress_is_kept_and_is_no_change():
    store = Store()
    address = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]}}
    store.apply([made("Ingress", "a", spec={}, metadata={"resourceVersion": "1"})])
    event = made("Ingress", "a", spec={}, status=address, metadata={"resourceVersion": "2"})
    assert store.apply([event]) == frozenset()
    assert store.get(event.key).status.load_balancer.ingress[0].ip == "192.0.2.1"
    # The same without a new version, as in a file.
    assert store.apply([made("Ingress", "a", spec={}, metadata={"resourceVersion": "2"})]) == frozenset()
    other = made("Ingress", "a", spec={"ingressClassName": "x"}, status=address, metadata={"resourceVersion": "3"})
    assert store.apply([other]) == {event.key}


def test_the_status_of_a_service_is_a_change():
    store = Store()
    event = made("Service", "a", metadata={"resourceVersion": "1"})
    store.apply([event])
    status = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}
    assert store.apply([made("Service", "a", status=status, metadata={"resourceVersion": "2"})]) == {event.key}


def test_there_and_back_in_one_batch_is_no_change():
    store = Store()
    event = ingress("a", "s")
    store.apply([event])
    assert store.apply([gone(event), ingress("a", "x"), event]) == frozenset()
    new = ingress("b", "s")
    assert store.apply([new, gone(new)]) == frozenset()


def test_a_new_position_is_no_change():
    store = Store()
    event = ingress("a", "s")
    store.apply([event._replace(position=Position("f", 1))])
    assert store.apply([event._replace(position=Position("f", 9))]) == frozenset()
    assert store.position(event.key) == Position("f", 9)
    store.apply([gone(event)])
    assert store.position(event.key) is None


def test_views_stay_what_they_were():
    store = Store()
    first = ingress("a", "s", secret="c")
    store.apply([first, slice_of("s-1", "s")])
    store.accept([first.key])
    view = store.snapshot()
    store.apply([gone(first), gone(slice_of("s-1", "s")), ingress("b", "s")])
    assert view.get(first.key) == first.object
    assert view.last_good(first.key) == first.object
    assert view.keys(Ingress) == (first.key,)
    assert len(view.slices(namespace="default", service="s")) == 1
    after = store.snapshot()
    assert after.get(first.key) is None
    assert after.last_good(first.key) is None
    assert [key.name for key in after.keys(Ingress)] == ["b"]
    assert after.slices(namespace="default", service="s") == ()


def test_last_good_stays_until_the_object_is_deleted():
    store = Store()
    good, bad = ingress("a", "good"), ingress("a", "bad")
    store.apply([good])
    assert store.last_good(good.key) is None
    store.accept([good.key])
    store.apply([bad])
    assert store.last_good(good.key) == good.object
    assert store.get(good.key) == bad.object
    store.apply([gone(bad)])
    assert store.last_good(good.key) is None
    store.accept([good.key])
    assert store.last_good(good.key) is None


def test_iteration_is_by_name_whatever_the_order_of_arrival():
    events = [ingress(name, "s") for name in ("b", "a", "c")]
    for order in (events, events[::-1]):
        store = Store()
        store.apply(order)
        assert [key.name for key, _ in store.snapshot().items(Ingress)] == ["a", "b", "c"]


def test_slices_follow_their_label():
    store = Store()
    store.apply([slice_of("b", "s"), slice_of("a", "s"), slice_of("c", "t")])
    view = store.snapshot()
    assert [one.metadata.name for one in view.slices(namespace="default", service="s")] == ["a", "b"]
    store.apply([slice_of("a", "t")])
    view = store.snapshot()
    assert [one.metadata.name for one in view.slices(namespace="default", service="s")] == ["b"]
    assert [one.metadata.name for one in view.slices(namespace="default", service="t")] == ["a", "c"]
    assert view.slices(namespace="other", service="s") == ()
    assert view.count(EndpointSlice) == 3


def test_find_by_type():
    store = Store()
    store.apply([made("Service", "s", namespace="ns")])
    found = store.snapshot().find(Service, namespace="ns", name="s")
    assert msgspec.structs.asdict(found)["metadata"].namespace == "ns"
    assert store.snapshot().find(Service, namespace="ns", name="t") is None
