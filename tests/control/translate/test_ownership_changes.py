"""An object becomes ours or stops being ours while we run: units, statuses and problems follow, and nothing is left."""

from __future__ import annotations

import pytest
from control.translate.world import World

from ingressd.control.objects.event import ObjectKey
from ingressd.control.store.store import Store
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator

WEB = ObjectKey("Ingress", "default", "web")
OURS, OTHERS = "ingressd.dev/ingress-controller", "example.com/other"
DEFAULT = "{ingressclass.kubernetes.io/is-default-class: 'true'}"


def ingress_class(name: str = "ingressd", controller: str = OURS, annotations: str = "{}", spec: str = "") -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}, annotations: {annotations}}}
spec: {{controller: {controller}, {spec}}}
"""


def web(class_line: str = "ingressClassName: ingressd", annotations: str = "{}") -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: default, annotations: {annotations}}}
spec:
  {class_line}
  rules:
  - host: web.example
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: a, port: {{number: 80}}}}}}}}]}}
  tls: [{{hosts: [web.example], secretName: missing}}]
"""


def parameters(data: str) -> str:
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: p, namespace: infra}}
data: {data}
"""


PARAMETERS = "parameters: {kind: ConfigMap, scope: Namespace, namespace: infra, name: p}"


@pytest.fixture
def world() -> World:
    return World()


def serves(translation: Translation) -> bool:
    """Whether everything of the object is there; fails when only a part of it is."""
    present = {
        "unit": "host/web.example" in translation.units,
        "certificate": "tls/web.example" in translation.units,
        "status": WEB in translation.statuses,
        "problem": any(one.reason == "ServiceNotFound" and one.origin.name == "web" for one in translation.problems),
    }
    assert len(set(present.values())) == 1, present
    return present["unit"]


def same_from_scratch(world: World, translation: Translation) -> None:
    scratch = Translator().translate(world.store.snapshot(), None)
    assert scratch.units == translation.units
    assert scratch.problems == translation.problems
    assert scratch.statuses == translation.statuses


def test_the_object_changes_its_class(world: World) -> None:
    world.put(ingress_class(), ingress_class("other", OTHERS))
    assert serves(world.put(web()))
    gone = world.put(web("ingressClassName: other"))
    assert not serves(gone)
    assert "host/web.example" in gone.removed
    assert "policy/default/web" not in gone.units
    assert serves(world.put(web()))
    assert not serves(world.put(web("ingressClassName: nobody's")))
    assert serves(world.put(web("ingressClassName: null", "{kubernetes.io/ingress.class: ingressd}")))
    last = world.put(web("ingressClassName: null", "{kubernetes.io/ingress.class: other}"))
    assert not serves(last)
    same_from_scratch(world, last)


def test_what_a_closed_object_leaves_behind_is_nothing(world: World) -> None:
    world.put(ingress_class(), ingress_class("other", OTHERS))
    closed = "{nginx.ingress.kubernetes.io/denylist-source-range: nonsense}"
    assert "policy/default/web" in world.put(web(annotations=closed)).units
    gone = world.put(web("ingressClassName: other", closed))
    assert "policy/default/web" in gone.removed
    assert gone.problems == []
    assert Translator().translate(Store().snapshot(), None).units == gone.units


def test_the_class_comes_and_goes(world: World) -> None:
    nobody = world.put(web())
    assert not serves(nobody)
    assert [one.reason for one in nobody.problems] == ["IngressClassNotFound"]
    ours = world.put(ingress_class())
    assert serves(ours)
    assert all(one.reason != "IngressClassNotFound" for one in ours.problems)
    gone = world.delete(ObjectKey("IngressClass", "", "ingressd"))
    assert not serves(gone)
    assert [one.reason for one in gone.problems] == ["IngressClassNotFound"]
    same_from_scratch(world, gone)


def test_the_class_gets_another_controller_and_comes_back(world: World) -> None:
    assert serves(world.put(ingress_class(), web()))
    gone = world.put(ingress_class(controller=OTHERS))
    assert not serves(gone)
    assert gone.problems == [], "somebody serves it: it is none of our business"
    back = world.put(ingress_class())
    assert serves(back)
    same_from_scratch(world, back)


def test_the_default_class_annotation_is_toggled(world: World) -> None:
    assert not serves(world.put(ingress_class(), web("ingressClassName: null")))
    assert serves(world.put(ingress_class(annotations=DEFAULT)))
    # The newest default counts, then the first by name: "a" is before "ingressd".
    taken = world.put(ingress_class("a", OTHERS, annotations=DEFAULT))
    assert not serves(taken)
    assert [one.reason for one in taken.problems] == ["SeveralDefaultClasses"]
    assert serves(world.put(ingress_class("a", OTHERS)))
    last = world.put(ingress_class())
    assert not serves(last)
    same_from_scratch(world, last)


def test_a_class_becomes_default_that_is_not_ours(world: World) -> None:
    by_annotation = web("ingressClassName: null", "{kubernetes.io/ingress.class: ingressd}")
    assert serves(world.put(ingress_class(), ingress_class("other", OTHERS, annotations=DEFAULT), by_annotation))


def test_a_change_of_class_that_concerns_nobody_makes_nothing_again(world: World) -> None:
    world.put(ingress_class(), web())
    assert world.put(ingress_class("other", OTHERS)).changed == {}


# --- parameters -------------------------------------------------------------------------------------------------------


def policy_of(translation: Translation) -> str:
    return translation.units["host/web.example"].routes[0].policy


def test_parameters_come_and_go(world: World) -> None:
    world.put(ingress_class(), web(), parameters("{proxy-body-size: '5'}"))
    came = world.put(ingress_class(spec=PARAMETERS))
    assert policy_of(came) == "IngressClass/ingressd"
    assert came.changed["policy/IngressClass/ingressd"].body_bytes == 5
    assert set(came.changed) == {"policy/IngressClass/ingressd", "host/web.example"}
    tuned = world.put(parameters("{proxy-body-size: '6'}"))
    assert {key: unit.body_bytes for key, unit in tuned.changed.items()} == {"policy/IngressClass/ingressd": 6}
    gone = world.delete(ObjectKey("ConfigMap", "infra", "p"))
    assert (policy_of(gone), set(gone.changed)) == ("IngressClass/ingressd", {"policy/IngressClass/ingressd"})
    assert gone.changed["policy/IngressClass/ingressd"].failed_closed == "spec.parameters of IngressClass ingressd"
    told = [(one.severity, one.reason, one.message) for one in gone.problems if one.origin.kind == "IngressClass"]
    message = "ConfigMap infra/p does not exist: every route of the class answers 503"
    assert told == [("error", "ParametersNotFound", message)]
    same_from_scratch(world, gone)
    back = world.put(parameters("{proxy-body-size: '7'}")).changed["policy/IngressClass/ingressd"]
    assert (back.body_bytes, back.failed_closed) == (7, None)
    last = world.put(ingress_class())
    assert (policy_of(last), last.removed) == ("", ("policy/IngressClass/ingressd",))
    same_from_scratch(world, last)


def test_an_allowlist_that_is_deleted_opens_nothing(world: World) -> None:
    own = "{nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8}"
    world.put(ingress_class(spec=PARAMETERS), parameters("{whitelist-source-range: '11.0.0.0/8'}"), web())
    gone = world.delete(ObjectKey("ConfigMap", "infra", "p"))
    assert gone.units[f"policy/{policy_of(gone)}"].failed_closed
    with_its_own = world.put(web(annotations=own))
    assert with_its_own.units["policy/default/web"].failed_closed == "spec.parameters of IngressClass ingressd"
    same_from_scratch(world, with_its_own)


@pytest.mark.parametrize(
    "reference",
    [
        "{apiGroup: example.com, kind: Tuning, name: t}",
        "{kind: ConfigMap, name: p}",
        "{kind: ConfigMap, scope: Namespace, namespace: infra}",
    ],
)
def test_parameters_that_we_cannot_read_close_the_class(world: World, reference: str) -> None:
    found = world.put(ingress_class(spec=f"parameters: {reference}"), parameters("{}"), web())
    assert found.units[f"policy/{policy_of(found)}"].failed_closed
    told = [(one.severity, one.reason) for one in found.problems if one.origin.kind == "IngressClass"]
    assert told == [("error", "ParametersNotSupported")]


def test_an_object_moves_between_classes_with_and_without_parameters(world: World) -> None:
    world.put(ingress_class(), ingress_class("tuned", spec=PARAMETERS), parameters("{proxy-body-size: '5'}"), web())
    moved = world.put(web("ingressClassName: tuned"))
    assert (policy_of(moved), set(moved.changed)) == ("IngressClass/tuned", {"host/web.example"})
    assert policy_of(world.put(web())) == ""


def test_an_objects_own_list_stands_on_the_settings_of_its_class(world: World) -> None:
    own = "{nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8}"
    world.put(
        ingress_class(spec=PARAMETERS), parameters("{proxy-body-size: '5', whitelist-source-range: '11.0.0.0/8'}")
    )
    unit = world.put(web(annotations=own)).units["policy/default/web"]
    assert (unit.body_bytes, unit.allowed_sources) == (5, ("10.0.0.0/8",))
    tuned = world.put(parameters("{proxy-body-size: '6'}"))
    assert tuned.changed["policy/default/web"].body_bytes == 6
    assert tuned.changed["policy/default/web"].allowed_sources == ("10.0.0.0/8",)
    same_from_scratch(world, tuned)


def test_parameters_are_wanted_whether_or_not_they_exist(world: World) -> None:
    key = ObjectKey("ConfigMap", "infra", "p")
    assert world.put(ingress_class(spec=PARAMETERS)).wanted == {key}
    there = world.put(parameters("{proxy-body-size: '5', add-headers: infra/headers}"))
    assert there.wanted == {key}, "a process-wide key of a class names nothing"
    assert world.put(ingress_class(controller=OTHERS, spec=PARAMETERS)).wanted == frozenset()


def test_parameters_of_a_class_that_is_not_ours_are_not_read(world: World) -> None:
    found = world.put(ingress_class(controller=OTHERS, spec="parameters: {kind: Tuning, apiGroup: x, name: p}"))
    assert found.problems == []
