"""The limit of memory of the control group, both versions."""

from __future__ import annotations

from pathlib import Path

from ingressd.settings.quota import memory_limit


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_version_2_takes_the_tightest_of_nested_groups(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/pod/container\n")
    put(tmp_path, "sys/fs/cgroup/pod/container/memory.max", "max\n")
    put(tmp_path, "sys/fs/cgroup/pod/memory.max", "536870912\n")
    put(tmp_path, "sys/fs/cgroup/memory.max", "1073741824\n")
    assert memory_limit(root=str(tmp_path)) == 536870912


def test_version_1(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "4:memory:/pod/container\n0::/\n")
    put(tmp_path, "sys/fs/cgroup/memory/pod/container/memory.limit_in_bytes", "268435456\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_limit(root=str(tmp_path)) == 268435456


def test_inside_a_namespace_the_own_group_is_the_root(tmp_path: Path) -> None:
    """/proc/self/cgroup names the path on the host, where the mount shows only our part of it."""
    put(tmp_path, "proc/self/cgroup", "4:memory:/kubepods/pod1/container\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n")
    assert memory_limit(root=str(tmp_path)) == 268435456


def test_no_limit(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "4:memory:/\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_limit(root=str(tmp_path)) is None
    assert memory_limit(root=str(tmp_path / "nothing")) is None
