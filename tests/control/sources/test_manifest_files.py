"""Manifest files: several documents, Lists, broken documents, wrong objects, positions."""

import json

from ingressd.control.objects.event import ObjectKey
from ingressd.control.sources.locate import field_path, locate_field
from ingressd.control.sources.manifests import ManifestReader

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\n"


def read(text, file="/m/a.yaml"):
    return ManifestReader().read(file, text.encode())


def names(contents):
    return sorted(key.name for key in contents.objects)


def test_documents_lists_and_other_kinds():
    text = (
        SERVICE % "one"
        + "---\n# nothing\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: [odd]\n---\n"
        + "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: two}}\n"
        + "- {apiVersion: v1, kind: Pod, metadata: {name: p}}\n---\n"
        + "apiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: three}}]\n"
    )
    contents = read(text)
    assert names(contents) == ["one", "three", "two"]
    assert contents.problems == ()


def test_json():
    items = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}]
    text = (
        json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        + "\n"
        + json.dumps(items[0] | {"metadata": {"name": "b"}})
    )
    assert names(read(text, "/m/a.json")) == ["a", "b"]


def test_a_broken_document_is_one_problem_and_the_others_load():
    contents = read(SERVICE % "one" + "---\nkind: [\n---\n" + SERVICE % "two")
    assert names(contents) == ["one", "two"]
    assert contents.broken
    (problem,) = contents.problems
    assert (problem.file, problem.line, problem.reason) == ("/m/a.yaml", 6, "InvalidManifest")


def test_a_wrong_object_is_named_with_its_line_and_the_others_load():
    text = SERVICE % "one" + "---\n" + SERVICE % "bad" + "spec:\n  ports:\n  - port: eighty\n---\n" + SERVICE % "two"
    contents = read(text)
    assert names(contents) == ["one", "two"]
    assert contents.refused == {ObjectKey("Service", "default", "bad")}
    assert not contents.broken
    assert str(contents.problems[0]) == (
        "/m/a.yaml:10: error: Service default/bad spec.ports[0].port: Expected `int`, got `str` [InvalidObject]"
    )


def test_a_wrong_item_of_a_list_is_found_in_the_list():
    text = (
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: ok}}\n"
        "- apiVersion: v1\n  kind: Service\n  metadata:\n    name: Bad\n"
    )
    contents = read(text)
    assert names(contents) == ["ok"]
    assert [(problem.line, problem.field) for problem in contents.problems] == [(8, "metadata.name")]


def test_documents_that_are_no_objects():
    contents = read(
        "just text\n---\nkind: Service\n---\napiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}\n"
    )
    assert [(problem.line, problem.message) for problem in contents.problems] == [
        (1, "expected an object, got str"),
        (3, "apiVersion: there is no apiVersion"),
        (5, "apiVersion: Ingress is read as networking.k8s.io/v1, not as extensions/v1beta1"),
    ]


def test_the_same_object_twice():
    contents = read(SERVICE % "a" + "---\n" + SERVICE % "a" + "spec: {externalName: later}\n")
    (value, position), (problem,) = contents.objects[ObjectKey("Service", "default", "a")], contents.problems
    assert (value.spec.external_name, position.line) == ("later", 5)
    assert (problem.severity, problem.line, problem.reason) == ("warning", 1, "DuplicateObject")


def test_bytes_that_are_no_text():
    contents = ManifestReader().read("/m/a.yaml", b"a: 1\n\xff")
    assert contents.broken
    assert (contents.problems[0].message, contents.problems[0].line) == ("not UTF-8", 2)


def test_what_did_not_change_stays_the_same_object():
    reader = ManifestReader()
    first = reader.read("/m/a.yaml", (SERVICE % "a" + "---\n" + SERVICE % "b").encode())
    again = reader.read("/m/a.yaml", ("# one more line\n---\n" + SERVICE % "b" + "---\n" + SERVICE % "c").encode())
    key = ObjectKey("Service", "default", "b")
    # The first document has no marker before it, so only the marked one keeps its text.
    assert again.objects[key][0] == first.objects[key][0]
    third = reader.read("/m/a.yaml", ("# one more line\n---\n" + SERVICE % "b" + "---\n" + SERVICE % "d").encode())
    assert third.objects[key][0] is again.objects[key][0]
    assert again.objects[key][1].line == 3


def test_times_stay_text_until_the_object_is_decoded():
    contents = read("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, creationTimestamp: 2024-01-01T00:00:00Z}\n")
    (value, _) = contents.objects[ObjectKey("Namespace", "", "a")]
    assert value.metadata.creation_timestamp.year == 2024


def test_locating_fields():
    text = (
        b"# comment\n---\n# more\nkind: Ingress\nmetadata:\n  annotations:\n    a.b/c: x\n    d: y\n"
        b"spec:\n  rules:\n  - host: a\n  - host: b\n"
    )

    def line(field):
        return locate_field(text, line=4, path=(), field=field)

    assert line("spec.rules[1].host") == 12
    assert line("spec.rules[1].http.paths") == 12
    assert line("a.b/c") == 7
    assert line("metadata.annotations.a.b/c") == 7
    assert line("nowhere") == 4
    assert line("") == 4
    assert locate_field(b"a: [", line=3, path=(), field="x") == 3


def test_locating_in_the_configuration_file():
    text = b"# comment\n\nsettings:\n  proxy-body-size: 1m\nroutes:\n- host: a\n  upstream: u\n"
    assert locate_field(text, line=1, path=("settings",), field="proxy-body-size") == 4
    assert locate_field(text, line=1, path=("routes", 0), field="upstream") == 7
    assert locate_field(text, line=1, path=("routes", 0), field="routes[0].upstream") == 7
    assert locate_field(text, line=1, path=("routes", 0), field="") == 6


def test_field_paths():
    assert field_path("spec.rules[0].http.paths[12]") == ("spec", "rules", 0, "http", "paths", 12)
