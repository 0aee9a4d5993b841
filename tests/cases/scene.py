"""What stands around a raw case: the files they are in, and ingressd between clients and recording upstreams."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import yaml
from cases.invariants import Baseline
from cases.raw_runner import Entrance
from cases.recorder import Recorder
from stage.certificates import selfsigned
from stage.echo import EchoLoop
from stage.ports import spelled
from stage.running import Ingressd
from stage.wire import ask, client_tls

FOLDER = Path(__file__).parent / "raw"


def read_cases(name: str) -> list[dict[str, Any]]:
    """The cases of one file of `raw`."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text("ascii"))


def file_names() -> list[str]:
    """The files of `raw`, which are the classes of cases."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


ROUTES = [("a.test", "/public", "pub"), ("a.test", "/admin", "adm"), ("a.test", "/", "u1"), ("b.test", "/", "u2")]
LIMITS = (
    "client-header-timeout",
    "client-body-timeout",
    "client-send-timeout",
    "keep-alive",
    "proxy-connect-timeout",
    "proxy-read-timeout",
    "proxy-send-timeout",
    "proxy-protocol-header-timeout",
)
"""Time limits, all of them longer than anybody's patience (`raw_runner.PATIENCE_S`) but those in a case's `limits`."""
SETTINGS = {**dict.fromkeys(LIMITS, "60"), "large-client-header-buffers": "4 16k", "ssl-redirect": "false"}
PROXIED = {"pp": "0.0.0.0/0", "pp_tls": "0.0.0.0/0", "pp_untrusted": "10.0.0.0/8"}
"""Listeners with the PROXY protocol, and whom they trust."""
OWN_HEADER = b"PROXY TCP4 127.0.0.1 127.0.0.1 9 80\r\n"


class Scene:
    """ingressd between clients and recording upstreams: a process for each trust in senders of PROXY headers, and for
    the time limits that some cases are about.
    """

    def __init__(self, folder: Path, loop: EchoLoop) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self.recorder = Recorder(loop)
        self._pair = selfsigned("a.test", "b.test")
        self._started: dict[tuple[object, ...], tuple[Ingressd, Baseline]] = {}

    def ingressd(self, trusted: str, limits: dict[str, int] | None = None) -> tuple[Ingressd, Baseline]:
        """The process whose listeners trust these senders of PROXY headers; "" is the one without the protocol."""
        key = trusted, *sorted((limits or {}).items())
        if key not in self._started:
            folder = self._folder / str(next(self._numbers))
            folder.mkdir()
            (folder / "a.crt").write_bytes(self._pair.cert)
            (folder / "a.key").write_bytes(self._pair.key)
            proxied = {"use-proxy-protocol": "true", "proxy-real-ip-cidr": trusted} if trusted else {}
            short = {name: str(seconds) for name, seconds in (limits or {}).items()}
            ingressd = Ingressd(
                folder,
                settings={**SETTINGS, **proxied, **short},
                routes=[{"host": host, "path": path, "upstream": upstream} for host, path, upstream in ROUTES],
                upstreams={name: {"endpoints": [spelled(a)]} for name, a in self.recorder.addresses.items()},
                tls=[{"hosts": ["a.test", "b.test"], "certFile": "a.crt", "keyFile": "a.key"}],
            )
            self.recorder.begin([])  # What the last case's upstream plays is not for this process.
            try:
                ingressd.start()
                for host in ("a.test", "b.test"):  # What is loaded or connected once is not what a case costs.
                    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                    reply = ask(ingressd.http, raw=(OWN_HEADER if trusted else b"") + head)
                    assert reply.status == 200, reply
                self._started[key] = ingressd, Baseline(ingressd, self.recorder)
            except BaseException:
                ingressd.stop()
                raise
        return self._started[key]

    def entrance(self, listener: str, limits: dict[str, int] | None = None) -> tuple[Ingressd, Baseline, Entrance]:
        """How a case comes in by http, https, https_raw (plain bytes to the TLS port), or one of PROXIED."""
        ingressd, baseline = self.ingressd(PROXIED.get(listener, ""), limits)
        over_tls = listener in ("https", "https_raw", "pp_tls")
        return (
            ingressd,
            baseline,
            Entrance(
                ingressd.https if over_tls else ingressd.http,
                ingressd.http,
                tls=client_tls() if listener == "https" else None,
                before_canary=OWN_HEADER if listener in PROXIED else b"",
                plain_http=listener in ("http", "https"),
                worker=baseline.worker,
            ),
        )

    def started(self) -> list[tuple[Ingressd, Baseline]]:
        """Every process that was needed."""
        return list(self._started.values())

    def close(self) -> None:
        """End everything, whatever fails."""
        try:
            for ingressd, _ in self.started():
                ingressd.stop()
        finally:
            self.recorder.close()
