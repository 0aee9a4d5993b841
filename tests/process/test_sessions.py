"""A TLS session resumes in any worker, and in one that was started later."""

from __future__ import annotations

import os
import signal
import ssl

import pytest
from stage.load import pid_of, role
from stage.running import PATIENCE_S, running
from stage.secure import connect_tls
from stage.wire import client_tls

pytestmark = pytest.mark.process


def handshake(address, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[bool, ssl.SSLSession]:
    with connect_tls(address, context, server_name="a.test", session=session, timeout_s=PATIENCE_S) as secure:
        return bool(secure.session_reused), secure.session


def test_a_session_resumes_in_every_worker_and_outlives_them(tmp_path):
    with running(tmp_path, workers=2) as ingressd:
        context = client_tls(maximum=ssl.TLSVersion.TLSv1_2)
        reused, session = handshake(ingressd.https, context)
        assert not reused
        # Each of two workers takes some of twelve connections, whoever wakes up first.
        assert all(handshake(ingressd.https, context, session)[0] for _ in range(12))
        for name in ("worker 0", "worker 1"):
            old = pid_of(ingressd, name)
            os.kill(old, signal.SIGKILL)
            ingressd.wait_until(
                lambda old=old, name=name: any(role(pid) == name for pid in set(ingressd.children()) - {old})
            )
        assert all(handshake(ingressd.https, context, session)[0] for _ in range(12))
