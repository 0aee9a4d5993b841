"""Who plays the raw cases: ingressd, nginx and HAProxy, each between clients and recording upstreams of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from cases.raw_runner import Entrance
from cases.recorder import Recorder
from cases.scene import OWN_HEADER, PROXIED, Scene
from stage.certificates import selfsigned
from stage.echo import EchoLoop
from stage.ports import Address, free_address, spelled
from stage.running import PROGRAM
from stage.wire import client_tls

CONFIGS = Path(__file__).parent / "peers"
START_S = 20.0
Case = dict[str, Any]


class MissingError(Exception):
    """The program is not installed, or did not start: says which and why."""


class Peer(Protocol):
    """A proxy with the fixture of the raw cases, its processes started when a case first needs them."""

    recorder: Recorder

    def entrance(self, case: Case) -> Entrance:
        """How it comes in. MissingError when the program does not start."""
        ...

    def close(self) -> None:
        """End every process and every upstream."""
        ...


class OwnPeer:
    """ingressd."""

    def __init__(self, folder: Path, loop: EchoLoop) -> None:
        self._scene = Scene(folder, loop)
        self.recorder = self._scene.recorder

    def entrance(self, case: Case) -> Entrance:
        """See Peer. Of no worker that could be asked whether it is done: silence is judged as that of the others."""
        return replace(self._scene.entrance(case.get("listener", "http"), case.get("limits"))[2], worker=0)

    def close(self) -> None:
        """See Peer."""
        self._scene.close()


class OtherPeer:
    """nginx or HAProxy: one process for each list of trusted senders of PROXY headers, as ingressd has it."""

    def __init__(self, name: str, folder: Path, loop: EchoLoop) -> None:
        self._name, self._folder = name, folder
        self.recorder = Recorder(loop)
        pair = selfsigned("a.test", "b.test")
        self._certificate = folder / "both.pem"
        self._certificate.write_bytes(pair.cert + pair.key)
        self._started: dict[str, tuple[subprocess.Popen[bytes], Address, Address]] = {}

    def entrance(self, case: Case) -> Entrance:
        """See Peer. The time limits are those of the configuration, 2 and 3 s, whatever the case's `limits`."""
        listener = case.get("listener", "http")
        trusted = PROXIED.get(listener, "")
        if trusted not in self._started:
            self._started[trusted] = self._start(trusted)
        _, http, https = self._started[trusted]
        return Entrance(
            https if listener in ("https", "https_raw", "pp_tls") else http,
            http,
            tls=client_tls() if listener == "https" else None,
            before_canary=OWN_HEADER if self._expects_header(listener, trusted) else b"",
            plain_http=listener in ("http", "https"),
        )

    def _expects_header(self, listener: str, trusted: str) -> bool:
        # nginx reads a header on every connection and believes some; HAProxy reads it only of those that it trusts.
        return listener in PROXIED and (self._name == "nginx" or trusted == "0.0.0.0/0")

    def _start(self, trusted: str) -> tuple[subprocess.Popen[bytes], Address, Address]:
        program = program_of(self._name)
        folder = self._folder / f"trusts-{trusted.partition('.')[0] or 'nobody'}"
        folder.mkdir()
        http, https = free_address(), free_address()
        words = {name: spelled(address) for name, address in self.recorder.addresses.items()}
        words |= {"folder": str(folder), "certificate": str(self._certificate)}
        words |= {"http": spelled(http), "https": spelled(https), "proxy": "", "real_ip": ""}
        if trusted and self._name == "nginx":
            words |= {"proxy": " proxy_protocol"}
            words |= {"real_ip": f"set_real_ip_from {trusted}; real_ip_header proxy_protocol;"}
        elif trusted:
            words |= {"proxy": f"tcp-request connection expect-proxy layer4 if {{ src {trusted} }}"}
        written = next(CONFIGS.glob(f"{self._name}.c*"))
        config = folder / written.name
        config.write_text(re.sub(r"@(\w+)@", lambda word: words[word[1]], written.read_text()))
        options = ["-p", str(folder), "-e", str(folder / "error.log"), "-c"] if self._name == "nginx" else ["-db", "-f"]
        with (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [program, *options, str(config)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            _wait_listening(process, http, folder / "output.txt")
        except BaseException:
            _end(process)
            raise
        return process, http, https

    def close(self) -> None:
        """See Peer."""
        for process, _, _ in self._started.values():
            _end(process)
        self.recorder.close()


def _wait_listening(process: subprocess.Popen[bytes], address: Address, output: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        if process.poll() is not None or time.monotonic() > until:
            raise MissingError(f"{process.args!r} does not listen: {output.read_text(errors='replace')[-1000:]}")
        with contextlib.suppress(OSError), socket.create_connection(address, 1):
            return
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


NAMES = ("ingressd", "nginx", "haproxy")


def program_of(name: str) -> str:
    """The path of the program. MissingError where it is not installed."""
    if name == "ingressd":
        return str(PROGRAM)
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise MissingError(f"{name} is not installed")
    return found


def version_of(name: str) -> str:
    """Name and version as the program says them, like `nginx 1.22.1`. MissingError where it is not installed."""
    words = {"ingressd": ["version"], "nginx": ["-v"], "haproxy": ["-v"]}[name]
    done = subprocess.run([program_of(name), *words], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"\d+(\.\d+)+[\w.+~-]*", done.stdout + done.stderr)
    return f"{'HAProxy' if name == 'haproxy' else name} {found[0] if found else 'of no version'}"


def peer_of(name: str, folder: Path, loop: EchoLoop) -> Peer:
    """That one, with nothing started yet."""
    return OwnPeer(folder, loop) if name == "ingressd" else OtherPeer(name, folder, loop)


_NO_LIST = "it has no list of those who may send a PROXY header, only of those whom it believes"
NOT_APPLICABLE: dict[str, dict[str, str]] = {
    "nginx": {
        "pp-v1-asked-on-443": "the scheme after the port in the PROXY header is a rule of ingress-nginx",
        "pp-untrusted-peer": _NO_LIST,
        "pp-untrusted-v2": _NO_LIST,
        "pp-untrusted-local": _NO_LIST,
        "slow-body-drip": "it has no least rate of a body",
        "slow-chunk-drip": "it has no least rate of a body",
    },
    "haproxy": {
        "pp-v1-asked-on-443": "the scheme after the port in the PROXY header is a rule of ingress-nginx",
        "pp-untrusted-missing": "it expects a header of trusted senders and takes all others for clients",
        "pp-untrusted-names-itself": "it expects a header of trusted senders and takes all others for clients",
    },
}
"""By proxy and case, why a case asks nothing of it."""


def not_applicable(peer: str, case: str) -> str:
    """Why this case is not played against this proxy; "" when it is."""
    return NOT_APPLICABLE.get(peer, {}).get(case, "")
