"""The source of a standalone proxy against real files: each change is one batch, each mistake keeps the last good."""

import asyncio
import os

import pytest

from ingressd.control.objects.event import ObjectKey
from ingressd.control.sources import local
from ingressd.control.sources.local import LocalSource, read_config, read_manifests
from ingressd.control.sources.resolver import Answer

SERVICE = "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {externalName: %s}\n"
LISTENER = 'listeners: [{name: http, address: "127.0.0.1:8080", protocol: HTTP}]\n'


class FakeResolver:
    """Answers from a table; what is not in it fails as a resolver does."""

    def __init__(self, **table):
        self.table = table
        self.closed = False

    async def resolve(self, host):
        if self.closed:
            raise RuntimeError("resolved after close")
        if host not in self.table:
            raise OSError("no such name")
        return Answer(self.table[host], 1.0)

    async def close(self):
        self.closed = True


def replace(path, text):
    """As an editor or a deployment does: a new file renamed over the old one."""
    pending = path.parent / f".{path.name}.new"
    pending.write_text(text)
    os.replace(pending, path)


class Watched:
    """A running source and what its batches add up to."""

    def __init__(self, source):
        self.source = source
        self.queue = asyncio.Queue()
        self.objects = {}
        self.problems = ()

    async def next(self):
        batch = await asyncio.wait_for(self.queue.get(), 30)
        for event in batch.events:
            if event.object is None:
                del self.objects[event.key]
            else:
                self.objects[event.key] = event.object
        self.problems = batch.problems
        return batch

    def services(self):
        return {key.name: value.spec.external_name for key, value in self.objects.items() if key.kind == "Service"}

    def said(self):
        return "\n".join(map(str, self.problems))


@pytest.fixture
def watch(tmp_path):
    """Run a scenario against a source that reads `config.yaml`."""

    def run(scenario, *, resolver=None, environ=None, flags=None):
        async def main():
            config = str(tmp_path / "config.yaml")
            resolver_or_none = resolver or FakeResolver()
            source = LocalSource(config, environ=environ or {}, flags=flags or {}, resolver=resolver_or_none)
            watched = Watched(source)
            task = asyncio.create_task(source.run(watched.queue))
            try:
                await watched.next()
                await scenario(watched)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert resolver_or_none.closed

        asyncio.run(main())

    (tmp_path / "k8s").mkdir()
    (tmp_path / "config.yaml").write_text(LISTENER + "manifests: [k8s]\n")
    return run


def test_one_file_replaced_is_one_batch(tmp_path, watch):
    file = tmp_path / "k8s" / "a.yaml"
    file.write_text(SERVICE % ("a", "one") + SERVICE % ("b", "one") + SERVICE % ("c", "one"))

    async def scenario(watched):
        assert watched.services() == {"a": "one", "b": "one", "c": "one"}
        replace(file, SERVICE % ("b", "changed") + SERVICE % ("c", "one") + SERVICE % ("d", "new"))
        batch = await watched.next()
        assert watched.services() == {"b": "changed", "c": "one", "d": "new"}
        assert (batch.complete, batch.config) == (True, None)

    watch(scenario)


def test_unchanged_objects_make_no_events(tmp_path, watch):
    file = tmp_path / "k8s" / "a.yaml"
    file.write_text(SERVICE % ("a", "x") + SERVICE % ("b", "x"))

    async def scenario(watched):
        replace(file, SERVICE % ("a", "x") + SERVICE % ("b", "y"))
        batch = await watched.next()
        assert [event.key.name for event in batch.events] == ["b"]

    watch(scenario)


def test_a_swapped_symlink_is_one_batch(tmp_path, watch):
    for name, text in (("v1", "one"), ("v2", "two")):
        (tmp_path / name).mkdir()
        for file in "ab":
            (tmp_path / name / f"{file}.yaml").write_text(SERVICE % (file, text))
    (tmp_path / "v2" / "c.yaml").write_text(SERVICE % ("c", "two"))
    (tmp_path / "k8s").rmdir()
    (tmp_path / "k8s").symlink_to("v1")

    async def scenario(watched):
        (tmp_path / "pending").symlink_to("v2")
        os.replace(tmp_path / "pending", tmp_path / "k8s")
        await watched.next()
        assert watched.services() == {"a": "two", "b": "two", "c": "two"}

    watch(scenario)


def test_a_config_map_volume_swaps_its_data_link(tmp_path, watch):
    folder = tmp_path / "k8s"
    for name, text in (("..1", "one"), ("..2", "two")):
        (folder / name).mkdir()
        for file in "ab":
            (folder / name / f"{file}.yaml").write_text(SERVICE % (file, text))
    (folder / "..data").symlink_to("..1")
    for file in "ab":
        (folder / f"{file}.yaml").symlink_to(f"..data/{file}.yaml")

    async def scenario(watched):
        assert watched.services() == {"a": "one", "b": "one"}
        (folder / "..pending").symlink_to("..2")
        os.replace(folder / "..pending", folder / "..data")
        await watched.next()
        assert watched.services() == {"a": "two", "b": "two"}

    watch(scenario)


def test_files_that_come_and_go(tmp_path, watch):
    async def scenario(watched):
        (tmp_path / "k8s" / "new.yaml").write_text(SERVICE % ("a", "x"))
        await watched.next()
        assert watched.services() == {"a": "x"}
        (tmp_path / "k8s" / "new.yaml").unlink()
        await watched.next()
        assert watched.services() == {}

    watch(scenario)


def test_a_broken_document_keeps_what_the_file_held(tmp_path, watch):
    file = tmp_path / "k8s" / "a.yaml"
    file.write_text(SERVICE % ("a", "old") + SERVICE % ("b", "old"))

    async def scenario(watched):
        replace(file, "---\nkind: [\n" + SERVICE % ("b", "new"))
        await watched.next()
        assert watched.services() == {"a": "old", "b": "new"}
        assert f"{file}:3: error: Manifest" in watched.said()
        replace(file, SERVICE % ("b", "new"))
        await watched.next()
        assert watched.services() == {"b": "new"}
        assert watched.problems == ()

    watch(scenario)


def test_a_wrong_object_keeps_its_last_good_and_the_others_change(tmp_path, watch):
    file = tmp_path / "k8s" / "a.yaml"
    file.write_text(SERVICE % ("a", "old") + SERVICE % ("b", "old"))

    async def scenario(watched):
        replace(file, SERVICE % ("a", "[wrong]") + SERVICE % ("b", "new"))
        await watched.next()
        assert watched.services() == {"a": "old", "b": "new"}
        assert "Service default/a spec.externalName: Expected `str`, got `array`" in watched.said()

    watch(scenario)


def test_a_broken_configuration_is_refused_as_a_whole(tmp_path, watch):
    config = tmp_path / "config.yaml"
    (tmp_path / "k8s" / "a.yaml").write_text(SERVICE % ("a", "x"))

    async def scenario(watched):
        replace(config, "listenrs: []\n")
        batch = await watched.next()
        assert (batch.events, batch.config) == ((), None)
        assert f"{config}:1: error: Config listenrs" in watched.said()
        assert (
            f"{config}: warning: Config: this version of the file is refused; the one before goes on" in watched.said()
        )
        assert "did you mean 'listeners'?" in watched.said()
        assert ObjectKey("StaticListener", "", "http") in watched.objects
        replace(config, "- : [\n")
        await watched.next()
        assert watched.services() == {"a": "x"}
        config.unlink()
        await watched.next()
        assert "cannot be read" in watched.said()
        assert watched.services() == {"a": "x"}

    watch(scenario)


def test_a_broken_entry_keeps_its_last_good_and_the_others_change(tmp_path, watch):
    config = tmp_path / "config.yaml"
    good = LISTENER + 'upstreams: {u: {endpoints: ["1.1.1.1:1"]}}\nsettings: {a: "1", b: "1"}\nroutes:\n'
    config.write_text(good + "- {host: a.b, upstream: u}\n- {host: c.d, upstream: u}\n")

    async def scenario(watched):
        bad = good.replace('"1.1.1.1:1"', '"1.1.1.1"').replace('a: "1", b: "1"', 'a: [[]], b: "2"')
        replace(config, bad + "- {host: a.b, upstrem: u}\n- {host: e.f, upstream: u}\n")
        batch = await watched.next()
        assert batch.config is not None
        assert {key.name for key in watched.objects if key.kind == "StaticRoute"} == {
            "Prefix a.b/",
            "Prefix c.d/",
            "Prefix e.f/",
        }
        assert watched.objects[ObjectKey("StaticUpstream", "", "u")].endpoints[0].port == 1
        assert watched.objects[ObjectKey("ProcessSettings", "", "settings")].values == {"a": "1", "b": "2"}
        assert "did you mean 'upstream'?" in watched.said()

    watch(scenario)


def test_certificates_are_read_and_swapped_together(tmp_path, watch):
    (tmp_path / "config.yaml").write_text("tls: [{certFile: a.crt, keyFile: a.key}]\n")
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    cert.write_text("cert 1")
    key.write_text("key 1")

    async def scenario(watched):
        name = ObjectKey("StaticTls", "", "a.crt")
        assert watched.objects[name].cert_pem == b"cert 1"
        assert "key 1" not in repr(watched.objects[name])
        replace(cert, "cert 2")
        replace(key, "key 2")
        await watched.next()
        assert (watched.objects[name].cert_pem, watched.objects[name].key_pem.reveal()) == (b"cert 2", b"key 2")
        key.unlink()
        await watched.next()
        assert watched.objects[name].key_pem.reveal() == b"key 2"
        assert "error: Config tls (a.crt) keyFile:" in watched.said()
        assert f"{tmp_path}/config.yaml:1:" in watched.said()

    watch(scenario)


@pytest.mark.parametrize(
    "form",
    [
        "admission: {address: '127.0.0.1:9443', certFile: a.crt, keyFile: a.key}\n",
        "flags: {validating-webhook: '127.0.0.1:9443', validating-webhook-certificate: a.crt, "
        "validating-webhook-key: a.key}\n",
    ],
)
def test_the_webhooks_certificate_is_swapped_together_and_its_address_changes(tmp_path, watch, form):
    config, cert, key = tmp_path / "config.yaml", tmp_path / "a.crt", tmp_path / "a.key"
    config.write_text(form)
    cert.write_text("cert 1")
    key.write_text("key 1")

    async def scenario(watched):
        name = ObjectKey("StaticAdmission", "", "admission")
        assert (watched.objects[name].port, watched.objects[name].cert_pem) == (9443, b"cert 1")
        replace(cert, "cert 2")
        replace(key, "key 2")
        await watched.next()
        assert (watched.objects[name].cert_pem, watched.objects[name].key_pem.reveal()) == (b"cert 2", b"key 2")
        key.unlink()
        await watched.next()
        assert watched.objects[name].key_pem.reveal() == b"key 2"
        assert f"(admission) keyFile: {key} cannot be read" in watched.said()
        key.write_text("key 2")
        await watched.next()
        assert watched.problems == ()
        replace(config, form.replace("9443", "9444"))
        await watched.next()
        assert watched.objects[name].port == 9444
        replace(config, "{}\n")
        await watched.next()
        assert name not in watched.objects

    watch(scenario)


def test_a_webhook_by_flag_without_a_certificate_is_said(tmp_path, watch):
    (tmp_path / "config.yaml").write_text("flags: {validating-webhook: ':9443'}\n")

    async def scenario(watched):
        assert ObjectKey("StaticAdmission", "", "admission") not in watched.objects
        assert "needs a certificate and a key" in watched.said()

    watch(scenario)


def test_a_broken_admission_section_keeps_the_webhook_and_the_others_change(tmp_path, watch):
    config = tmp_path / "config.yaml"
    good = "admission: {address: '127.0.0.1:9443', certFile: a.crt, keyFile: a.key}\n"
    config.write_text(good)
    (tmp_path / "a.crt").write_text("cert")
    (tmp_path / "a.key").write_text("key")

    async def scenario(watched):
        replace(config, LISTENER + good.replace("127.0.0.1", "here"))
        await watched.next()
        assert watched.objects[ObjectKey("StaticAdmission", "", "admission")].host == "127.0.0.1"
        assert ObjectKey("StaticListener", "", "http") in watched.objects
        assert "expected an IP address" in watched.said()

    watch(scenario)


def test_what_only_a_restart_changes_is_said(tmp_path, watch):
    config = tmp_path / "config.yaml"

    async def scenario(watched):
        replace(
            config, LISTENER + "workers: 77\nadmin: {address: ':1'}\nkubernetes: {inCluster: true}\nmanifests: [k8s]\n"
        )
        batch = await watched.next()
        assert batch.config.workers == 77
        assert sorted(p.field for p in watched.problems if p.reason == "RestartRequired") == [
            "admin",
            "kubernetes",
            "workers",
        ]
        replace(config, LISTENER + "manifests: [k8s]\nflags: {watch-namespace: a}\n")
        await watched.next()
        assert watched.problems == ()
        replace(config, LISTENER + "manifests: [k8s]\nflags: {watch-namespace: a}\nkubernetes: {inCluster: true}\n")
        await watched.next()
        assert sorted(p.field for p in watched.problems) == ["kubernetes", "watch-namespace"]

    watch(scenario)


def test_names_resolve_before_the_first_batch_and_keep_their_last_answer(tmp_path, watch):
    (tmp_path / "config.yaml").write_text('upstreams: {u: {endpoints: ["api:1", "10.0.0.1:2"]}}\n')
    resolver = FakeResolver(api=("10.0.0.2", "fd00::2"))
    upstream = ObjectKey("StaticUpstream", "", "u")

    def addresses(watched):
        return [endpoint.addresses for endpoint in watched.objects[upstream].endpoints]

    async def scenario(watched):
        assert addresses(watched) == [("10.0.0.2", "fd00::2"), ("10.0.0.1",)]
        resolver.table["api"] = ("10.0.0.3",)
        await watched.next()
        assert addresses(watched)[0] == ("10.0.0.3",)
        del resolver.table["api"]
        batch = await watched.next()
        assert batch.events == ()
        assert addresses(watched)[0] == ("10.0.0.3",)
        assert "api does not resolve: no such name" in watched.said()

    watch(scenario, resolver=resolver)


def test_a_name_that_never_resolves_does_not_hold_up_the_others(tmp_path, watch):
    (tmp_path / "config.yaml").write_text('upstreams: {u: {endpoints: ["nope:1", "10.0.0.1:2"]}}\n')

    async def scenario(watched):
        endpoints = watched.objects[ObjectKey("StaticUpstream", "", "u")].endpoints
        assert [endpoint.addresses for endpoint in endpoints] == [(), ("10.0.0.1",)]

    watch(scenario)


def test_reload_reads_although_nothing_seems_to_have_changed(tmp_path, watch, monkeypatch):
    file = tmp_path / "k8s" / "a.yaml"
    file.write_text(SERVICE % ("a", "old"))
    monkeypatch.setattr(local, "look_at", lambda config: {})

    async def scenario(watched):
        replace(file, SERVICE % ("a", "new"))
        watched.source.reload()
        await watched.next()
        assert watched.services() == {"a": "new"}

    watch(scenario)


def test_a_configuration_replaced_while_it_is_read_is_read_again(tmp_path, watch, monkeypatch):
    file = tmp_path / "config.yaml"
    (tmp_path / "k8s" / "a.yaml").write_text(SERVICE % ("a", "x"))
    load, loads = local.load_config, []

    def slow_load(*args, **kwargs):
        loaded = load(*args, **kwargs)
        loads.append(loaded)
        if len(loads) == 1:
            replace(file, LISTENER)
        return loaded

    monkeypatch.setattr(local, "load_config", slow_load)

    async def scenario(watched):
        # Whether it is seen at once or as a change: what the file says now is what counts in the end.
        if watched.services():
            await watched.next()
        assert watched.services() == {}

    watch(scenario)


def test_manifests_that_are_not_there_are_named(tmp_path, watch):
    (tmp_path / "config.yaml").write_text("manifests: [nowhere, k8s]\n")
    (tmp_path / "k8s" / "a.yaml").write_text(SERVICE % ("a", "x"))

    async def scenario(watched):
        assert watched.services() == {"a": "x"}
        assert f"Manifest {tmp_path}/nowhere: there is no such file or folder" in watched.said()

    watch(scenario)


def test_one_object_in_two_files(tmp_path):
    (tmp_path / "a.yaml").write_text(SERVICE % ("a", "first"))
    (tmp_path / "b.yaml").write_text(SERVICE % ("a", "second"))
    batch = read_manifests([str(tmp_path)])
    assert [event.object.spec.external_name for event in batch.events if event.key.kind == "Service"] == ["second"]
    (problem,) = batch.problems
    assert (problem.file, problem.message) == (
        f"{tmp_path}/a.yaml",
        f"written again in {tmp_path}/b.yaml:2, which wins",
    )


def test_offline_names_stay_unresolved(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text('upstreams: {u: {endpoints: ["api:1"]}}\nroutes: [{upstream: u}]\n')
    batch = read_config(str(config), environ={}, flags={})
    objects = {event.key: event.object for event in batch.events}
    assert objects[ObjectKey("StaticUpstream", "", "u")].endpoints[0].addresses is None
    assert ObjectKey("StaticRoute", "", "Prefix /") in objects
    assert batch.config.path == str(config)


def test_offline_a_refused_file_gives_problems_and_no_configuration(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("rutes: []\n")
    batch = read_config(str(config), environ={}, flags={})
    assert (batch.config, batch.events) == (None, ())
    assert "did you mean 'routes'?" in str(batch.problems[0])
