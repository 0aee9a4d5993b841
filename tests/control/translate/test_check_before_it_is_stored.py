"""What the admission webhook is told of an Ingress: errors, warnings, and nothing about what is not ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from control.translate.world import CLASS, World

from ingressd.control.objects.decode import decode_value
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.static import Flags, ProcessSettings, StaticEndpoint, StaticRoute, StaticUpstream
from ingressd.control.translate.book import CROWD
from ingressd.control.translate.translator import Translator

PREFIX = "nginx.ingress.kubernetes.io/"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {ports: [{port: 80}]}
"""


def ingress(
    name: str,
    *paths: str,
    host: str = "adm.example",
    annotations: dict[str, str] | None = None,
    class_name: str | None = "ingressd",
    **spec: Any,
) -> dict[str, Any]:
    """An Ingress whose paths are "Prefix /a"."""
    split = [path.split(" ", 1) for path in paths]
    backend = {"service": {"name": "a", "port": {"number": 80}}}
    rules = [{"pathType": kind, "path": path, "backend": backend} for kind, path in split]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {
            **({"ingressClassName": class_name} if class_name else {}),
            **({"rules": [{"host": host, "http": {"paths": rules}}]} if rules else {}),
            **spec,
        },
    }


class Asked(World):
    """A world that can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.put(CLASS, SERVICE)

    def settings(self, **values: str) -> None:
        settings = ProcessSettings(values={key.replace("_", "-"): value for key, value in values.items()})
        self.put(static={ObjectKey("ProcessSettings", "", "settings"): settings})

    def flags(self, **values: str) -> None:
        flags = Flags({key.replace("_", "-"): value for key, value in values.items()})
        self.put(static={ObjectKey("Flags", "", "flags"): flags})

    def have(self, *objects: dict[str, Any]) -> None:
        self.put(yaml.safe_dump_all(objects))

    def check(self, asked: dict[str, Any]) -> list[tuple[str, str, str]]:
        """(severity, reason, field) of every problem."""
        _, decoded = decode_value("Ingress", copy.deepcopy(asked))
        return [(one.severity, one.reason, one.field) for one in self.translator.check(self.store.snapshot(), decoded)]

    def messages(self, asked: dict[str, Any]) -> list[str]:
        _, decoded = decode_value("Ingress", copy.deepcopy(asked))
        return [one.message for one in self.translator.check(self.store.snapshot(), decoded)]


@pytest.fixture
def world() -> Asked:
    return Asked()


PATH0, PATH1 = "spec.rules[0].http.paths[0].path", "spec.rules[0].http.paths[1].path"


def test_a_good_object_has_nothing_against_it(world: Asked) -> None:
    assert world.check(ingress("x", "Prefix /", "Exact /a")) == []


def test_a_path_that_another_has_is_an_error_that_names_it(world: Asked) -> None:
    world.have(ingress("first", "Prefix /safe", "Prefix /conflict"))
    asked = ingress("second", "Prefix /other", "Prefix /conflict/")
    assert world.check(asked) == [("error", "PathConflict", PATH1)]
    assert world.messages(asked) == [
        'host "adm.example" and path "/conflict" is already defined in ingress default/first'
    ]


def test_age_is_no_right_to_what_another_serves(world: Asked) -> None:
    world.have(ingress("first", "Prefix /"))
    asked = ingress("second", "Prefix /")
    asked["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    assert world.check(asked) == [("error", "PathConflict", PATH0)]


def test_other_hosts_paths_and_path_types_are_free(world: Asked) -> None:
    world.have(ingress("first", "Prefix /a"))
    assert world.check(ingress("second", "Exact /a", "Prefix /b", "Prefix /a/b")) == []
    assert world.check(ingress("second", "Prefix /a", host="b.adm.example")) == []
    assert world.check(ingress("second", "Prefix /a", host="")) == []


def test_hosts_are_compared_without_case_and_paths_as_they_are_matched(world: Asked) -> None:
    world.have(ingress("first", "Prefix /a%62"))
    assert world.check(ingress("second", "Prefix /ab", host="ADM.example")) == [("error", "PathConflict", PATH0)]


def test_an_update_is_not_compared_with_itself(world: Asked) -> None:
    world.have(ingress("first", "Prefix /", "Prefix /a"))
    assert world.check(ingress("first", "Prefix /", "Prefix /a", "Prefix /b")) == []
    world.have(ingress("second", "Prefix /c"))
    assert world.check(ingress("second", "Prefix /c", "Prefix /a")) == [("error", "PathConflict", PATH1)]


def test_the_owner_of_a_path_may_change_while_a_loser_waits(world: Asked) -> None:
    first, second = ingress("first", "Prefix /"), ingress("second", "Prefix /")
    first["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    second["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.have(first, second)
    assert world.check(first) == []
    assert world.check(second) == [("error", "PathConflict", PATH0)]


def test_the_same_path_twice_in_one_object(world: Asked) -> None:
    assert world.check(ingress("x", "Prefix /a", "Prefix /a/")) == [("error", "PathConflict", PATH1)]


def test_every_host_is_called_as_in_ingress_nginx(world: Asked) -> None:
    world.have(ingress("first", "Prefix /", host=""))
    (message,) = world.messages(ingress("second", "Prefix /", host=""))
    assert message == 'host "_" and path "/" is already defined in ingress default/first'


def test_routes_of_the_file_hold_their_paths_too(world: Asked) -> None:
    static = {
        ObjectKey("StaticRoute", "", "r"): StaticRoute("adm.example", "/", "Prefix", "u"),
        ObjectKey("StaticUpstream", "", "u"): StaticUpstream("u", (StaticEndpoint("h", 1, addresses=()),)),
    }
    world.put(static=static)
    (message,) = world.messages(ingress("x", "Prefix /"))
    assert message.endswith("is already defined in routes of the configuration file")


@pytest.mark.parametrize("path", ["Exact /foo/bar/[a-z]{3}", "Prefix /a b", "Prefix /a%20b", "Exact /a$"])
def test_odd_characters_in_exact_and_prefix(world: Asked, path: str) -> None:
    assert world.check(ingress("x", path)) == [("error", "StrictPathType", PATH0)]
    world.settings(strict_validate_path_type="false")
    assert world.check(ingress("x", path)) == [("warning", "StrictPathType", PATH0)]
    assert world.check(ingress("x", "ImplementationSpecific " + path.split(" ", 1)[1])) == []


def test_a_solver_ingress_of_cert_manager_passes_beside_its_host(world: Asked) -> None:
    world.have(ingress("shop", "Prefix /"))
    open_to_all = {PREFIX + "whitelist-source-range": "0.0.0.0/0,::/0"}
    for kind in ("Exact", "ImplementationSpecific", "Prefix"):
        path = f"{kind} /.well-known/acme-challenge/LoqXcYV8q5ONb_x-9"
        assert world.check(ingress("cm-acme-http-solver-x7k2p", path, annotations=open_to_all)) == []


def test_all_errors_are_said_at_once(world: Asked) -> None:
    asked = ingress("x", "Prefix a", "Nonsense /b", annotations={PREFIX + "server-snippet": "x"})
    assert {field for severity, _, field in world.check(asked) if severity == "error"} == {
        PATH0,
        "spec.rules[0].http.paths[1].pathType",
        PREFIX + "server-snippet",
    }


@pytest.mark.parametrize(
    ("annotations", "severity", "reason"),
    [
        ({"whitelist-source-range": "nonsense"}, "error", "InvalidAnnotation"),
        ({"configuration-snippet": "x"}, "error", "AnnotationRefused"),
        ({"auth-url": "http://a/"}, "warning", "FailedClosed"),
        ({"canary": "true"}, "warning", "AnnotationNotBuilt"),
        ({"rewrite-target": "/"}, "warning", "AnnotationNotBuilt"),
        ({"rewrite-targe": "/"}, "warning", "UnknownAnnotation"),
    ],
)
def test_what_is_not_the_objects_mistake_is_a_warning(
    world: Asked, annotations: dict[str, str], severity: str, reason: str
) -> None:
    asked = ingress("x", "Prefix /", annotations={PREFIX + name: value for name, value in annotations.items()})
    assert [(one[0], one[1]) for one in world.check(asked)] == [(severity, reason)]


def test_a_canary_takes_nothing_and_conflicts_with_nothing(world: Asked) -> None:
    world.have(ingress("first", "Prefix /"))
    asked = ingress("second", "Prefix /", annotations={PREFIX + "canary": "true"})
    assert [one[0] for one in world.check(asked)] == ["warning"]


def test_a_service_that_is_not_there_may_come_later(world: Asked) -> None:
    world.delete(ObjectKey("Service", "default", "a"))
    assert world.check(ingress("x", "Prefix /")) == [
        ("warning", "ServiceNotFound", "spec.rules[0].http.paths[0].backend.service")
    ]


def test_blocked_words_refuse_here_and_in_translation(world: Asked) -> None:
    world.settings(annotation_value_word_blocklist="set_by_lua, load_module")
    asked = ingress("x", "Prefix /", annotations={PREFIX + "connection-proxy-header": "x set_by_lua"})
    assert ("error", "AnnotationRefused", PREFIX + "connection-proxy-header") in world.check(asked)
    translation = world.put(yaml.safe_dump(asked))
    assert "host/adm.example" not in translation.units
    assert "AnnotationRefused" in {one.reason for one in translation.problems}


def test_a_last_good_version_that_has_a_blocked_word_does_not_come_back(world: Asked) -> None:
    world.have(ingress("x", "Prefix /", annotations={PREFIX + "rewrite-target": "/lua"}))
    world.settings(annotation_value_word_blocklist="lua")
    translation = world.put(yaml.safe_dump(ingress("x", "Prefix bad", annotations={PREFIX + "rewrite-target": "/lua"})))
    assert "host/adm.example" not in translation.units


def test_disable_catch_all_refuses_a_default_backend(world: Asked) -> None:
    catch_all = ingress("x", defaultBackend={"service": {"name": "a", "port": {"number": 80}}})
    assert world.check(catch_all) == []
    world.have(catch_all)
    assert world.check(catch_all) == []
    other = copy.deepcopy(catch_all)
    other["metadata"]["name"] = "y"
    assert world.check(other) == [("warning", "DefaultBackendConflict", "spec.defaultBackend")]
    world.flags(disable_catch_all="true")
    assert world.check(catch_all) == [("error", "CatchAllDisabled", "spec.defaultBackend")]


@pytest.mark.parametrize("class_name", ["other", None, "missing"])
def test_what_is_not_ours_is_left_alone(world: Asked, class_name: str | None) -> None:
    world.have(ingress("first", "Prefix /"))
    bad = ingress("x", "Prefix /", "Nonsense x", class_name=class_name, annotations={PREFIX + "server-snippet": "x"})
    assert world.check(bad) == []


def test_other_namespaces_are_not_ours_either(world: Asked) -> None:
    world.flags(watch_namespace="kube-system")
    assert world.check(ingress("x", "Nonsense x")) == []


def test_a_host_of_many_objects_is_compared_by_path(world: Asked) -> None:
    taken = [("error", "PathConflict", PATH0)]
    world.have(*(ingress(f"i{number}", f"Prefix /{number}", f"Exact /{number}") for number in range(CROWD + 2)))
    assert world.check(ingress("new", "Prefix /7")) == taken
    assert world.check(ingress("new", "Prefix /new")) == []
    assert world.check(ingress("i7", "Prefix /7")) == []
    world.have(ingress("i7", "Prefix /moved"))
    assert world.check(ingress("new", "Prefix /7")) == []
    assert world.check(ingress("new", "Prefix /moved")) == taken
    world.have(ingress("late", "Exact /late"))
    assert world.check(ingress("new", "Exact /late")) == taken
    for name in ("late", "i7", "i8"):
        world.delete(ObjectKey("Ingress", "default", name))
    assert world.translator._book._by_path == {}, "it is no crowd any more"
    assert world.check(ingress("new", "Prefix /moved")) == []
    assert world.check(ingress("new", "Prefix /9")) == taken


def test_the_default_backend_of_another_is_said(world: Asked) -> None:
    default = {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}
    world.have(ingress("first", **default))
    assert world.check(ingress("second", **default)) == [("warning", "DefaultBackendConflict", "spec.defaultBackend")]
    assert world.check(ingress("first", **default)) == world.check(ingress("second", "Prefix /")) == []


def test_asking_changes_nothing(world: Asked) -> None:
    world.have(ingress("first", "Prefix /"))
    before = world.put()
    memo = dict(world.translator._memo)
    for name in ("first", "second"):
        world.check(ingress(name, "Prefix /", "Exact /new"))
    assert world.translator._memo == memo
    after = world.put()
    assert (after.units, after.problems, after.changed) == (before.units, before.problems, {})
    assert Translator().translate(world.store.snapshot(), None).units == after.units


def test_before_the_first_translation_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(RuntimeError):
        Translator().check(World().store.snapshot(), decode_value("Ingress", ingress("x", "Prefix /"))[1])


def test_another_policy_for_client_certificates_is_a_warning() -> None:
    asked = Asked()
    wish = {PREFIX + "auth-tls-secret": "default/ca"}
    asked.have(ingress("one", "Prefix /one", annotations=wish))
    same = ingress("two", "Prefix /two", annotations=wish)
    assert asked.check(same) == []
    other = ingress("two", "Prefix /two", annotations={**wish, PREFIX + "auth-tls-verify-client": "optional"})
    assert asked.check(other) == [("warning", "ClientCertificatesConflict", PREFIX + "auth-tls-secret")]
    assert asked.check(ingress("one", "Prefix /one", annotations={PREFIX + "auth-tls-secret": "default/new"})) == []
    broken = ingress("two", "Prefix /two", host="b.example", annotations={PREFIX + "auth-tls-secret": "elsewhere/ca"})
    assert ("error", "InvalidAnnotation", PREFIX + "auth-tls-secret") in asked.check(broken)
