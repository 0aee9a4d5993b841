"""A drain looks every few milliseconds: at those that it may close, and no others."""

from __future__ import annotations

import pytest
from stage.played import Stage, play

from ingressd.proxy.dataplane import dataplane as module

REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def test_who_is_busy_costs_no_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand tunnels would keep a worker busy with nothing else until their time is over."""
    asked = []
    monkeypatch.setattr(module, "has_unread", lambda transport: asked.append(transport) or False)

    def scene(stage: Stage) -> None:
        stage.pooled()
        busy, idle = stage.client(), stage.client()
        busy.data_received(REQUEST)
        stage.now[0] += 10.0
        stage.dataplane._close_idle()
        assert asked == [idle.transport]
        assert (busy.transport.ended, idle.transport.ended) == ("", "closed")

    play(scene)
