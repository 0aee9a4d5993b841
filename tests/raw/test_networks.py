"""The recipes that need a network of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw import networks
from stage.network import alone

pytestmark = pytest.mark.process


@pytest.mark.slow
def test_res_loopback_loss(tmp_path: Path) -> None:
    alone(networks.loopback_loss, tmp_path)


def test_res_enobufs_ports(tmp_path: Path) -> None:
    alone(networks.no_ports_left, tmp_path)


@pytest.mark.slow
def test_res_dns_down(tmp_path: Path) -> None:
    alone(networks.resolver_down, tmp_path)


@pytest.mark.slow
def test_up_half_open_pooled(tmp_path: Path) -> None:
    alone(networks.silent_flow, tmp_path)


@pytest.mark.slow
def test_up_half_open_pooled_and_a_post(tmp_path: Path) -> None:
    alone(networks.silent_flow_and_post, tmp_path)


@pytest.mark.slow
def test_up_connect_blackhole(tmp_path: Path) -> None:
    alone(networks.black_hole, tmp_path)


@pytest.mark.slow
def test_up_unsolicited_on_idle_crosses_the_request(tmp_path: Path) -> None:
    alone(networks.crossing, tmp_path)
