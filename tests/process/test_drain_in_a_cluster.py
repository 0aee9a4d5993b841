"""SIGTERM in a cluster: ready while the drain delay lasts, because terminating endpoints serve only then (KEP-1669)."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from stage.apiserver.server import FakeApiServer
from stage.load import fetch, upstream
from stage.running import PATIENCE_S, route_to, running

pytestmark = pytest.mark.process

GRACE_S = 3


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
            slow = threading.Thread(target=lambda: outcomes.append(fetch(ingressd.http, "/hold")))
            slow.start()
            ingressd.wait_until(lambda: address.asked == ["/hold"])
            told_s = time.monotonic()
            ingressd.send_signal(signal.SIGTERM)
            said = [(0, 0, 0.0)]
            while said[-1][0] != 503:
                said.append((ingressd.ask_admin("/readyz"), fetch(ingressd.http).status, time.monotonic() - told_s))
                assert said[-1][2] < GRACE_S + PATIENCE_S, said
            for readiness, status, after_s in said[1:]:
                assert (readiness, status) == (200, 200) or after_s >= GRACE_S - 0.1
            assert len(said) > 2
            ingressd.wait_until(lambda: fetch(ingressd.http).error)
            address.go.set()
            slow.join()
            assert [(one.status, one.error) for one in outcomes] == [(200, "")]
            assert ingressd.process.wait(PATIENCE_S) == 0
