"""The design's "O(change), not O(world)": a change must bring the units of that object and no other."""

from control.translate.world import CLASS, World

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.static import Flags, ProcessSettings
from ingressd.model.units import Endpoints, RoutePolicy, VirtualHost

SETTINGS = ObjectKey("ProcessSettings", "", "settings")
FLAGS = ObjectKey("Flags", "", "flags")


def app(name: str, *, path: str = "/", port: int = 80, address: str = "10.0.0.1", annotation: str = "{}") -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {annotation}}}
spec:
  ingressClassName: ingressd
  rules:
  - host: {name}.example
    http:
      paths:
      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: ["{address}"]}}]
"""


def world() -> World:
    found = World()
    found.put(CLASS, app("a"), app("b"))
    return found


def test_an_endpoint_changes_its_endpoints_alone() -> None:
    translation = world().put(app("a", address="10.0.0.2"))
    assert list(translation.changed) == ["endpoints/default/a:80"]
    assert isinstance(unit := translation.changed["endpoints/default/a:80"], Endpoints)
    assert [one.address for one in unit.endpoints] == ["10.0.0.2"]
    assert translation.removed == ()


def test_a_path_changes_its_host_alone() -> None:
    translation = world().put(app("a", path="/new"))
    assert list(translation.changed) == ["host/a.example"]
    assert isinstance(unit := translation.changed["host/a.example"], VirtualHost)
    assert [route.path for route in unit.routes] == ["/new"]


def test_a_deleted_ingress_takes_its_host_and_its_upstream_along() -> None:
    translation = world().delete(ObjectKey("Ingress", "default", "a"))
    assert translation.changed == {}
    assert translation.removed == ("endpoints/default/a:80", "host/a.example", "upstream/default/a:80")


def test_a_service_that_loses_the_port_turns_the_route_into_503_and_comes_back() -> None:
    found = world()
    translation = found.put(app("a", port=81))
    assert list(translation.changed) == ["host/a.example"]
    assert translation.removed == ("endpoints/default/a:80", "upstream/default/a:80")
    assert [problem.reason for problem in translation.problems] == ["ServicePortNotFound"]
    translation = found.put(app("a"))
    assert sorted(translation.changed) == ["endpoints/default/a:80", "host/a.example", "upstream/default/a:80"]
    assert translation.problems == []


def test_what_changes_nothing_changes_nothing() -> None:
    translation = world().put(app("a", annotation="{example.com/seen: yesterday}"))
    assert (translation.changed, translation.removed) == ({}, ())


def test_a_setting_changes_the_policy_alone() -> None:
    translation = world().put(static={SETTINGS: ProcessSettings(values={"proxy-read-timeout": "7"})})
    assert list(translation.changed) == ["policy/"]


def test_a_setting_reaches_the_policies_that_fail_closed() -> None:
    found = world()
    found.put(app("a", annotation="{nginx.ingress.kubernetes.io/auth-url: x}"))
    translation = found.put(static={SETTINGS: ProcessSettings(values={"proxy-read-timeout": "7"})})
    assert sorted(translation.changed) == ["policy/", "policy/default/a"]
    assert isinstance(unit := translation.changed["policy/default/a"], RoutePolicy)
    assert (unit.read_timeout_s, unit.failed_closed) == (7.0, "nginx.ingress.kubernetes.io/auth-url")
    translation = found.put(app("a"))
    assert list(translation.changed) == ["host/a.example"]
    assert translation.removed == ("policy/default/a",)


def test_a_class_that_goes_takes_everything_and_brings_it_back() -> None:
    found = world()
    translation = found.delete(ObjectKey("IngressClass", "", "ingressd"))
    assert {key.partition("/")[0] for key in translation.removed} == {"endpoints", "host", "upstream"}
    assert translation.statuses == {}
    translation = found.put(CLASS)
    assert len(translation.changed) == 6
    assert len(translation.statuses) == 2


def test_addresses_of_the_flag_reach_statuses_and_no_unit() -> None:
    translation = world().put(static={FLAGS: Flags({"publish-status-address": "10.9.9.9"})})
    assert translation.changed == {}
    assert set(map(str, translation.statuses.values())) == {"{'loadBalancer': {'ingress': [{'ip': '10.9.9.9'}]}}"}


def test_from_nothing_again_is_no_change() -> None:
    found = world()
    translation = found.translator.translate(found.store.snapshot(), None)
    assert (translation.changed, translation.removed) == ({}, ())
