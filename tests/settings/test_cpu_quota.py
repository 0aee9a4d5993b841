"""Workers by the cgroup's quota, both versions."""

import os

import pytest

from ingressd.settings.quota import default_workers


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def test_version_2_rounds_up(tmp_path):
    put(tmp_path, "proc/self/cgroup", "0::/pod/container\n")
    put(tmp_path, "sys/fs/cgroup/pod/container/cpu.max", "250000 100000\n")
    assert default_workers(root=str(tmp_path)) == 3


def test_version_2_takes_the_tightest_of_nested_groups(tmp_path):
    put(tmp_path, "proc/self/cgroup", "0::/pod/container\n")
    put(tmp_path, "sys/fs/cgroup/pod/container/cpu.max", "max 100000\n")
    put(tmp_path, "sys/fs/cgroup/pod/cpu.max", "200000 100000\n")
    assert default_workers(root=str(tmp_path)) == 2


def test_version_1(tmp_path):
    put(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/docker/abc\n")
    put(tmp_path, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n")
    put(tmp_path, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n")
    assert default_workers(root=str(tmp_path)) == 1


def test_no_quota_is_every_cpu_we_may_use(tmp_path):
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert default_workers(root=str(tmp_path)) == 8
    assert default_workers(root=str(tmp_path / "nothing")) == 8


def test_a_quota_above_the_cpus_does_not_count(tmp_path):
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "1600000 100000\n")
    assert default_workers(root=str(tmp_path)) == 8
