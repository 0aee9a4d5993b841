"""Translation names the Secrets and ConfigMaps that it looks at, and no other."""

from control.translate.world import CLASS, World

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.static import Flags, ProcessSettings
from ingressd.control.translate.translator import Translator

SETTINGS = ObjectKey("ProcessSettings", "", "settings")
FLAGS = ObjectKey("Flags", "", "flags")


def ingress(name: str, secret: str, *, owner: str = "ingressd") -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  ingressClassName: {owner}
  tls: [{{hosts: [{name}.example], secretName: {secret}}}]
  rules: [{{host: {name}.example}}]
"""


def secret(name: str) -> ObjectKey:
    return ObjectKey("Secret", "default", name)


def test_secrets_come_and_go_with_those_who_name_them() -> None:
    world = World()
    assert world.put(CLASS, ingress("a", "one"), ingress("b", "one")).wanted == {secret("one")}
    both = world.put(ingress("b", "two")).wanted
    assert both == {secret("one"), secret("two")}
    assert world.put(ingress("b", "two").replace("metadata: {", "metadata: {labels: {a: b}, ")).wanted is both
    assert world.delete(ObjectKey("Ingress", "default", "a")).wanted == {secret("two")}


def test_authorities_are_wanted_and_an_authority_switched_off_is_not() -> None:
    world = World()
    ask = ingress("a", "one").replace(
        "metadata: {name: a}",
        "metadata: {name: a, annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: default/ca}}",
    )
    off = ask.replace("/ca}", "/ca, nginx.ingress.kubernetes.io/auth-tls-verify-client: 'off'}")
    assert world.put(CLASS, ask).wanted == {secret("one"), secret("ca")}
    assert world.put(off).wanted == {secret("one")}


def test_of_others_nothing_is_wanted() -> None:
    world = World()
    assert world.put(CLASS, ingress("a", "one", owner="other")).wanted == frozenset()
    assert world.put(ingress("a", "one")).wanted == {secret("one")}
    assert world.put(ingress("a", "one", owner="other")).wanted == frozenset()


def test_what_settings_and_flags_name() -> None:
    world = World()
    settings = ProcessSettings({"add-headers": "x/headers"}, config_map="x/settings")
    flags = Flags({"default-ssl-certificate": "x/cert"})
    wanted = world.put(CLASS, static={SETTINGS: settings, FLAGS: flags}).wanted
    assert wanted == {
        ObjectKey("ConfigMap", "x", "headers"),
        ObjectKey("ConfigMap", "x", "settings"),
        ObjectKey("Secret", "x", "cert"),
    }
    assert world.put(static={FLAGS: Flags({})}).wanted == wanted - {ObjectKey("Secret", "x", "cert")}


def test_the_same_from_scratch() -> None:
    world = World()
    world.put(CLASS, ingress("a", "one"), ingress("b", "two"))
    wanted = world.put(ingress("b", "three")).wanted
    assert Translator().translate(world.store.snapshot(), None).wanted == wanted
    world.store.apply([])
    world.put(ingress("b", "four"))
    again = world.translator.translate(world.store.snapshot(), None).wanted
    assert again == {secret("one"), secret("four")}
    assert world.translator.translate(world.store.snapshot(), None).wanted is again
