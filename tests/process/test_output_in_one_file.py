"""`ingressd run > FILE 2>&1`: access log and operational log share a file, and every line stays whole."""

from __future__ import annotations

import json
import re

import pytest
from stage.running import Ingressd, route_to
from stage.scripted import answering, scripted
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


def test_access_log_and_operational_log_do_not_overwrite_each_other(tmp_path):
    with scripted(answering()) as upstream:
        ingressd = Ingressd(tmp_path, **route_to({"api": [upstream.address]}, accessLog={"path": "-"}))
        ingressd.output_mode = "wb"  # As a shell's `>` opens it: without O_APPEND.
        ingressd.start()
        try:
            for change in range(5):
                with Client(ingressd.http) as client:
                    for number in range(20):
                        client.send(request_bytes(f"/{change}/{number}", host="api.test", keep_alive=True))
                        assert client.reply().status == 200
                host = f"change{change}.test"
                routes = [*ingressd.config["routes"], {"host": host, "path": "/", "upstream": "api"}]
                ingressd.change(live=lambda h=host: ask(ingressd.http, host=h).status == 200, routes=routes)
        finally:
            ingressd.stop()
    lines = ingressd.output().splitlines()
    targets = [json.loads(line)["path"] for line in lines if line.startswith("{")]
    assert [line for line in lines if not re.match(r"\{|20\d\d-\d\d-\d\dT", line)] == []
    assert {f"/{change}/{number}" for change in range(5) for number in range(20)} <= set(targets)
