"""The snapshot of a cluster's objects: whole, private, in memory, or not at all."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import stat
import tempfile
import time
import zlib

import pytest

from ingressd.control.objects.decode import decode_value
from ingressd.control.objects.event import ObjectEvent, ObjectKey
from ingressd.control.sources.cluster import snapshot as snapshot_module
from ingressd.control.sources.cluster.memory_folder import file_system
from ingressd.control.sources.cluster.snapshot import Snapshot
from ingressd.control.sources.cluster.snapshot_format import HEADER_BYTES, Packer, Preamble
from ingressd.control.sources.cluster.snapshot_writer import CONFIRM_S, REST_S, SnapshotWriter
from ingressd.control.store.store import Store
from ingressd.settings.config import KubernetesConfig

MOUNTINFO = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw
33 22 0:29 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw,size=1024k
40 22 0:41 /a\\040b /mnt/x rw - overlay overlay rw,lowerdir=/x - y
"""


@pytest.fixture
def folder():
    # Where every Linux has a file system in memory.
    path = tempfile.mkdtemp(dir="/dev/shm", prefix="ingressd-test-")
    yield path
    shutil.rmtree(path)


def kept_in(folder, **config):
    return Snapshot(KubernetesConfig(in_cluster=True, snapshot_dir=folder, **config))


def made(kind, name, *, uid="1", **rest):
    metadata = {"name": name, "namespace": "team", "uid": uid, "labels": {"a": "b"}}
    return ObjectEvent(*decode_value(kind, {"metadata": metadata, **rest}))


def ingress(name, *, class_name="ingressd", uid="1"):
    return made("Ingress", name, uid=uid, spec={"ingressClassName": class_name})


SECRET = made("Secret", "cert", data={"tls.key": "AP9wcml2YXRl"}, type="kubernetes.io/tls")
OBJECTS = (
    ingress("a"),
    ingress("b"),
    made("Service", "a", spec={"ports": [{"port": 80, "targetPort": "http"}]}),
    made("EndpointSlice", "a", addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"]}], ports=[{"port": 8080}]),
    SECRET,
    ObjectEvent(*decode_value("IngressClass", {"metadata": {"name": "ingressd"}, "spec": {"controller": "x/y"}})),
)


def store_of(*events):
    store = Store()
    store.apply(events)
    return store


def write(snapshot, store, *, ours=lambda key: True, confirmed_at_s=1000.0):
    return asyncio.run(snapshot.write(store.snapshot(), ours=ours, confirmed_at_s=confirmed_at_s))


def restore(snapshot):
    restored = asyncio.run(snapshot.restore())
    return restored and restored._replace(objects=tuple(restored.objects))


def reasons(snapshot):
    return [problem.reason for problem in snapshot.problems()]


def test_everything_comes_back_as_it_was(folder):
    assert write(kept_in(folder), store_of(*OBJECTS))
    restored = restore(kept_in(folder))
    assert restored is not None
    assert dict(restored.objects) == {event.key: event.object for event in OBJECTS}
    assert (restored.good, restored.number) == ((), len(OBJECTS))
    assert restored.confirmed_at_s == 1000.0
    secret = dict(restored.objects)[SECRET.key]
    assert secret.data["tls.key"].reveal() == b"\x00\xffprivate"


def test_nobody_else_may_read_it_and_nothing_is_left_beside_it(folder):
    old = os.umask(0)
    try:
        assert write(kept_in(folder), store_of(*OBJECTS))
    finally:
        os.umask(old)
    assert os.listdir(folder) == ["objects"]
    assert stat.S_IMODE(os.stat(os.path.join(folder, "objects")).st_mode) == 0o600


def test_objects_of_others_are_not_in_it(folder):
    assert write(kept_in(folder), store_of(*OBJECTS), ours=lambda key: key.kind == "Secret")
    assert [key for key, _ in restore(kept_in(folder)).objects] == [SECRET.key]


def test_last_good_versions_of_refused_objects_outlive_a_restart(folder):
    store = store_of(*OBJECTS)
    store.accept([ObjectKey("Ingress", "team", "a"), ObjectKey("Ingress", "team", "b")])
    store.apply([ingress("a", class_name="broken")])
    assert write(kept_in(folder), store)
    good = kept_in(folder).last_good()
    assert [(key.name, value.spec.ingress_class_name) for key, value in good] == [("a", "ingressd")]
    assert restore(kept_in(folder)).good == good

    after = store_of(ingress("a", class_name="broken"))
    after.remember(good)
    assert after.last_good(ObjectKey("Ingress", "team", "a")).spec.ingress_class_name == "ingressd"
    another = store_of(ingress("a", class_name="broken", uid="2"))
    another.remember(good)
    assert another.last_good(ObjectKey("Ingress", "team", "a")) is None, "an object of the same name is another one"
    accepted = store_of(ingress("a", class_name="newer"))
    accepted.accept([ObjectKey("Ingress", "team", "a")])
    accepted.remember(good)
    assert accepted.last_good(ObjectKey("Ingress", "team", "a")).spec.ingress_class_name == "newer"


def test_without_a_folder_or_a_file_there_is_nothing(folder):
    assert restore(kept_in("")) is None
    assert not write(kept_in(""), store_of(*OBJECTS))
    assert restore(kept_in(folder)) is None
    assert reasons(kept_in(folder)) == []


def test_a_folder_on_a_disk_is_refused(folder, monkeypatch):
    monkeypatch.setattr(snapshot_module, "why_not_in_memory", lambda folder: f"{folder} is not in memory but on ext4")
    snapshot = kept_in(folder)
    assert not snapshot.usable
    assert not write(snapshot, store_of(*OBJECTS))
    assert os.listdir(folder) == []
    (problem,) = snapshot.problems()
    assert (problem.reason, problem.field) == ("SnapshotUnusable", "kubernetes.snapshotDir")
    assert "not in memory but on ext4" in problem.message


def test_file_systems_are_told_apart_by_device():
    assert file_system(MOUNTINFO, os.makedev(0, 29)) == "tmpfs"
    assert file_system(MOUNTINFO, os.makedev(254, 1)) == "ext4"
    assert file_system(MOUNTINFO, os.makedev(0, 41)) == "overlay"
    assert file_system(MOUNTINFO, os.makedev(0, 2)) == ""


def spoiled(content, how):
    if how == "empty":
        return b""
    if how == "no header":
        return content[: HEADER_BYTES - 1]
    if how == "truncated":
        return content[:-1]
    if how == "longer":
        return content + b"x"
    if how == "other format":
        return content[:8] + b"\x00\x63" + content[10:]
    if how == "other file":
        return b"something" + content[9:]
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize(
    "how", ["empty", "no header", "truncated", "longer", "other format", "other file", "a flipped bit"]
)
def test_a_file_that_is_not_whole_is_reported_and_ignored(folder, how):
    path = os.path.join(folder, "objects")
    assert write(kept_in(folder), store_of(*OBJECTS))
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(spoiled(content, how))
    snapshot = kept_in(folder)
    assert restore(snapshot) is None
    assert snapshot.last_good() == ()
    assert reasons(snapshot) == ["SnapshotIgnored"]
    assert write(snapshot, store_of(*OBJECTS))
    assert reasons(snapshot) == []
    assert len(restore(snapshot).objects) == len(OBJECTS)


def test_nonsense_with_a_good_checksum_is_reported_and_ignored(folder):
    packer = Packer(Preamble(snapshot_module.scope_of(KubernetesConfig(in_cluster=True)), "0"))
    body = packer._counted(zlib.compress(b"\x00\x00\x00\x02\xc1\xc1"))
    with open(os.path.join(folder, "objects"), "wb") as file:
        file.write(packer.header() + body)
    snapshot = kept_in(folder)
    assert restore(snapshot) is None
    assert reasons(snapshot) == ["SnapshotIgnored"]


@pytest.mark.parametrize("other", [{"namespaces": ("a",)}, {"label_selector": "x=y"}])
def test_what_is_of_another_selection_is_not_served(folder, other):
    assert write(kept_in(folder), store_of(*OBJECTS))
    snapshot = kept_in(folder, **other)
    assert restore(snapshot) is None
    assert "other namespaces or labels" in snapshot.problems()[0].message


def test_a_file_that_others_may_have_written_is_not_believed(folder, monkeypatch):
    path = os.path.join(folder, "objects")
    assert write(kept_in(folder), store_of(*OBJECTS))
    os.chmod(path, 0o622)
    snapshot = kept_in(folder)
    assert restore(snapshot) is None and reasons(snapshot) == ["SnapshotIgnored"]
    os.chmod(path, 0o600)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert restore(snapshot) is None and "belongs to user" in snapshot.problems()[0].message
    monkeypatch.undo()
    os.rename(path, path + "-moved")
    os.symlink(path + "-moved", path)
    assert restore(snapshot) is None and reasons(snapshot) == ["SnapshotIgnored"]


def test_a_link_planted_for_the_writer_is_not_followed(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    snapshot = kept_in(folder)
    os.symlink(victim, os.path.join(folder, f"objects.{os.getpid()}"))
    assert write(snapshot, store_of(*OBJECTS))
    assert victim.read_text() == "untouched"
    assert os.listdir(folder) == ["objects"]


def test_what_a_killed_writer_left_is_cleared_away(folder):
    leftover = os.path.join(folder, "objects.4711")
    with open(leftover, "wb") as file:
        file.write(b"half of the private keys")
    kept_in(folder)
    assert not os.path.exists(leftover)


def test_a_full_file_system_is_a_problem_and_the_old_file_stays(folder, monkeypatch):
    snapshot = kept_in(folder)
    assert write(snapshot, store_of(*OBJECTS))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_module.os, "utime", full)
    assert not write(snapshot, store_of(OBJECTS[0]))
    assert reasons(snapshot) == ["SnapshotNotWritten"]
    assert os.listdir(folder) == ["objects"]
    assert len(restore(snapshot).objects) == len(OBJECTS)


def test_the_loop_turns_while_a_big_snapshot_is_written(folder):
    store = store_of(*(ingress(f"i{number}") for number in range(20_000)))
    longest = [0.0]

    async def watch_the_loop():
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            # CPU of this thread: what others do on the machine is not a stall of ours.
            now = time.thread_time()
            longest[0], last = max(longest[0], now - last), now

    async def both():
        watcher = asyncio.create_task(watch_the_loop())
        assert await kept_in(folder).write(store.snapshot(), ours=lambda key: True, confirmed_at_s=0)
        restored = await kept_in(folder).restore()
        assert restored.number == 20_000
        while tuple(itertools.islice(restored.objects, 200)):
            await asyncio.sleep(0)
        watcher.cancel()

    gc.freeze()  # As the controller does once it has its objects.
    try:
        asyncio.run(both())
    finally:
        gc.unfreeze()
    assert 0 < longest[0] < 0.02


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def writer_of(snapshot, store, clock, *, age_s=lambda: 0.0):
    return SnapshotWriter(
        snapshot, store, ours=lambda key: True, age_s=age_s, clock=clock, wall_clock=lambda: 5000.0 + clock.now
    )


def test_it_is_written_after_changes_but_not_too_often(folder):
    clock, store, snapshot = Clock(), store_of(*OBJECTS[:1]), kept_in(folder)
    writer = writer_of(snapshot, store, clock)
    asyncio.run(writer.step())
    assert len(restore(snapshot).objects) == 1
    store.apply(OBJECTS)
    clock.now = REST_S - 0.1
    asyncio.run(writer.step())
    assert len(restore(snapshot).objects) == 1, "too soon"
    clock.now = REST_S
    asyncio.run(writer.step())
    assert len(restore(snapshot).objects) == len(OBJECTS)


def test_its_age_is_that_of_the_knowledge_not_of_the_file(folder):
    clock, store, snapshot, age = Clock(), store_of(*OBJECTS), kept_in(folder), [0.0]
    writer = writer_of(snapshot, store, clock, age_s=lambda: age[0])
    asyncio.run(writer.step())
    assert restore(snapshot).confirmed_at_s == 5000
    clock.now = CONFIRM_S
    asyncio.run(writer.step())
    assert restore(snapshot).confirmed_at_s == 5000 + CONFIRM_S, "nothing changed, and the cluster still says so"
    clock.now, age[0] = 100.0, 80.0
    store.apply([ingress("new")])
    asyncio.run(writer.step())
    assert restore(snapshot).confirmed_at_s == 5020, "written late, during an outage that began at 20"


def test_nothing_is_written_before_all_was_seen(folder):
    writer = writer_of(kept_in(folder), store_of(*OBJECTS), Clock(), age_s=lambda: None)
    asyncio.run(writer.step())
    asyncio.run(writer.close())
    assert os.listdir(folder) == []


def test_a_clean_end_writes_what_is_new(folder):
    clock, store, snapshot = Clock(), store_of(*OBJECTS[:1]), kept_in(folder)
    writer = writer_of(snapshot, store, clock)
    asyncio.run(writer.step())
    store.apply(OBJECTS)
    asyncio.run(writer.close())
    assert len(restore(snapshot).objects) == len(OBJECTS)
