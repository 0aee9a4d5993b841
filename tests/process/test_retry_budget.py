"""The retry budget is the pod's: how many workers there are makes no difference."""

from __future__ import annotations

import time

import pytest
from stage.running import route_to, running
from stage.scripted import answering, scripted
from stage.wire import ask

pytestmark = pytest.mark.process

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
WINDOW_S = 10


@pytest.mark.parametrize("workers", [1, 4])
def test_three_retries_a_second_whatever_the_number_of_workers(tmp_path, workers):
    settings = {"proxy-next-upstream": "error timeout http_503", "retry-budget-percent": "0"}
    with scripted(answering(BUSY)) as upstream:
        config = route_to({"api": [upstream.address]}, settings=settings, workers=workers)
        with running(tmp_path, **config) as ingressd:
            began_s = time.monotonic()
            statuses = [ask(ingressd.http, host="api.test").status for _ in range(150)]
            windows = 1 + int((time.monotonic() - began_s) / WINDOW_S)
    retries = upstream.received.count(b"GET / ") - len(statuses)
    assert statuses == [503] * 150
    assert 30 <= retries <= 30 * windows
