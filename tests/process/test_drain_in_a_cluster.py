"""SIGTERM in a cluster: ready while the drain delay lasts, because terminating endpoints serve only then (KEP-1669)."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from stage.apiserver.server import FakeApiServer
from stage.load import fetch, upstream
from stage.running import route_to, running

pytestmark = pytest.mark.process

GRACE_S = 2


def test_ready_and_accepting_until_the_delay_is_over_and_then_neither(tmp_path):
    with FakeApiServer() as server, upstream() as address:
        config = route_to(
            {"api": [address]},
            settings={"ssl-redirect": "false"},
            flags={"shutdown-grace-period": str(GRACE_S)},
            kubernetes={"kubeconfig": str(server.write_kubeconfig(tmp_path))},
        )
        with running(tmp_path, **config) as ingressd:
            outcomes = []
            slow = threading.Thread(target=lambda: outcomes.append(fetch(ingressd.http, "/sleep/3")))
            slow.start()
            time.sleep(0.3)
            ingressd.send_signal(signal.SIGTERM)
            told_s = time.monotonic()
            asked = 0
            while time.monotonic() < told_s + GRACE_S - 0.4:
                assert ingressd.ask_admin("/readyz") == 200
                assert fetch(ingressd.http).status == 200
                asked += 1
            assert asked > 3
            ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 503, within_s=2.0)
            assert time.monotonic() - told_s >= GRACE_S - 0.1
            ingressd.wait_until(lambda: fetch(ingressd.http).error, within_s=0.5)
            slow.join()
            assert [(one.status, one.error) for one in outcomes] == [(200, "")]
            assert ingressd.process.wait(3.0) == 0
