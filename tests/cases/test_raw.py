"""The raw cases: byte-exact requests, hostile clients, broken upstreams. README.md describes how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import yaml
from cases.invariants import Baseline, broken
from cases.raw_judge import judge_raw
from cases.raw_runner import Entrance, play
from cases.recorder import Recorder
from cases.serving import later
from stage.certificates import selfsigned
from stage.echo import EchoLoop
from stage.ports import spelled
from stage.running import Ingressd
from stage.wire import ask, client_tls

pytestmark = pytest.mark.process

FOLDER = Path(__file__).parent / "raw"


def cases(*names: str) -> list[Any]:
    """The cases of these files."""
    return [
        pytest.param(case, id=f"{name}: {case['name']}", marks=later(case))
        for name in names
        for case in yaml.safe_load((FOLDER / f"{name}.yaml").read_text("ascii"))
    ]


ALL = cases(*sorted(path.stem for path in FOLDER.glob("*.yaml")))
CUT = [param for param in ALL if not param.values[0].get("long") and not param.id.startswith("slow:")]
ROUTES = [("a.test", "/public", "pub"), ("a.test", "/admin", "adm"), ("a.test", "/", "u1"), ("b.test", "/", "u2")]
SETTINGS = {
    "client-header-timeout": "2",
    "client-body-timeout": "3",
    "keep-alive": "3",
    "proxy-connect-timeout": "2",
    "proxy-read-timeout": "3",
    "proxy-send-timeout": "3",
    "proxy-protocol-header-timeout": "2",
    "large-client-header-buffers": "4 16k",
    "ssl-redirect": "false",
}
PROXIED = {"pp": "0.0.0.0/0", "pp_tls": "0.0.0.0/0", "pp_untrusted": "10.0.0.0/8"}
"""Listeners with the PROXY protocol, and whom they trust."""
OWN_HEADER = b"PROXY TCP4 127.0.0.1 127.0.0.1 9 80\r\n"


class Scene:
    """ingressd between clients and recording upstreams: a process for plain listeners, and one for each trust."""

    def __init__(self, folder: Path, loop: EchoLoop) -> None:
        self._folder = folder
        self.recorder = Recorder(loop)
        self._pair = selfsigned("a.test", "b.test")
        self._started: dict[str, tuple[Ingressd, Baseline]] = {}

    def ingressd(self, trusted: str) -> tuple[Ingressd, Baseline]:
        """The process whose listeners trust these senders of PROXY headers; "" is the one without the protocol."""
        if trusted not in self._started:
            folder = self._folder / f"trusts-{trusted.partition('.')[0] or 'nobody'}"
            folder.mkdir()
            (folder / "a.crt").write_bytes(self._pair.cert)
            (folder / "a.key").write_bytes(self._pair.key)
            proxied = {"use-proxy-protocol": "true", "proxy-real-ip-cidr": trusted} if trusted else {}
            ingressd = Ingressd(
                folder,
                settings={**SETTINGS, **proxied},
                routes=[{"host": host, "path": path, "upstream": upstream} for host, path, upstream in ROUTES],
                upstreams={name: {"endpoints": [spelled(a)]} for name, a in self.recorder.addresses.items()},
                tls=[{"hosts": ["a.test", "b.test"], "certFile": "a.crt", "keyFile": "a.key"}],
            )
            ingressd.start()
            for host in ("a.test", "b.test"):  # What is loaded or connected once is not what a case costs.
                head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                assert ask(ingressd.http, raw=(OWN_HEADER if trusted else b"") + head).status == 200
            self._started[trusted] = ingressd, Baseline(ingressd, self.recorder)
        return self._started[trusted]

    def entrance(self, listener: str) -> tuple[Ingressd, Baseline, Entrance]:
        """How a case comes in by http, https, https_raw (plain bytes to the TLS port), or one of PROXIED."""
        ingressd, baseline = self.ingressd(PROXIED.get(listener, ""))
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


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, echo_loop: EchoLoop) -> Iterator[Scene]:
    """The processes for all cases."""
    scene = Scene(tmp_path_factory.mktemp("raw"), echo_loop)
    try:
        yield scene
    finally:
        scene.close()


@pytest.mark.parametrize("case", ALL)
def test_raw_case(case: dict[str, Any], scene: Scene) -> None:
    """One of the accepted outcomes, nothing that is never accepted, and the invariants."""
    check(case, scene)


@pytest.mark.parametrize("case", CUT)
def test_raw_case_byte_by_byte(case: dict[str, Any], scene: Scene) -> None:
    """The same when every byte comes alone: no outcome may depend on how the network cut the message."""
    check(case, scene, pieces=1)


@pytest.mark.parametrize("case", CUT)
def test_raw_case_in_pieces_of_any_size(case: dict[str, Any], scene: Scene) -> None:
    """The same once more, in a few pieces cut anywhere."""
    check(case, scene, seed=crc32(case["name"].encode()))


def test_nothing_has_leaked_over_all_cases(scene: Scene) -> None:
    """Tasks and memory are where they were, and no traceback was logged."""
    scene.ingressd("")
    for _, baseline in scene.started():
        assert not list(baseline.rest_broken())


def check(case: dict[str, Any], scene: Scene, **cut: int) -> None:
    ingressd, baseline, entrance = scene.entrance(case.get("listener", "http"))
    seen = play(case, scene.recorder, entrance, **cut)
    _, wrong = judge_raw(case, seen)
    wrong += broken(seen, scripted="upstream" in case, upgrades=case.get("upgrades", False))
    wrong += baseline.files_broken()
    assert not ingressd.ended(), ingressd.output()
    assert not wrong, "\n".join([f"{case['name']}: {case.get('why', '')}", *wrong])
