"""The field of a bench: the backend and every peer that could be started, kept running side by side until the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from loadtest.backend import start_backend
from loadtest.certificate import write_certificate
from loadtest.launch import LOAD_CPU, PROXY_CPU, MissingError, Place, Running, free_ports
from loadtest.micro.command import program_command
from loadtest.peers import caddy, envoy, haproxy, ingressd, nginx, plain_aiohttp

Command = Callable[[Place], list[str]]
PEERS: dict[str, Command] = {
    "nginx": nginx.command,
    "caddy": caddy.command,
    "envoy": envoy.command,
    "aiohttp": plain_aiohttp.command,
    "nginx-tuned": nginx.tuned_command,
    "dataplane-alone": lambda place: program_command("dataplane_alone", place),
    "pair-blind": lambda place: program_command("pair_blind", place),
    "pair-httptools": lambda place: program_command("pair_httptools", place),
    "pair-aiohttp-parser": lambda place: program_command("pair_aiohttp_parser", place),
}
DEFAULT_PEERS = ("nginx", "haproxy", "caddy", "envoy", "aiohttp")
ALL_PEERS = tuple(sorted({*PEERS, "haproxy"}))


class Peer(NamedTuple):
    """A running proxy. `load` are the programs on the load's CPU that work for it: backend, HAProxy's syslog sink."""

    name: str
    place: Place
    running: Running
    load: tuple[Running, ...]

    def port(self, scheme: str) -> int:
        return self.place.https_port if scheme == "https" else self.place.http_port

    def truncate_log(self) -> None:
        """Nobody reads the access logs of a bench; they would fill the disk."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.place.access_log, 0)


class Field(NamedTuple):
    """Who runs, and who is missing and why."""

    peers: list[Peer]
    missing: dict[str, str]


def default_builds() -> dict[str, str]:
    """The ingressd of the interpreter that runs the bench."""
    return {"ingressd": f"{sys.executable} -m ingressd"}


def parse_builds(values: Iterable[str]) -> dict[str, str]:
    """`--ingressd` options → label and command. `pure=bin/ingressd`, or a bare command, which is called ingressd."""
    builds: dict[str, str] = {}
    for value in values:
        label, separator, command = value.partition("=")
        if not separator:
            label, command = "ingressd", value
        if label in builds:
            raise ValueError(f"two builds are called {label!r}")
        first, _, rest = command.partition(" ")
        if "/" in first:
            first = str(Path(first).absolute())
        builds[label] = f"{first} {rest}".strip()
    return builds


def enter_field(
    stack: contextlib.ExitStack,
    folder: Path,
    *,
    names: Iterable[str],
    builds: Mapping[str, str],
    sizes: tuple[int, ...],
) -> Field:
    """Start the backend, then the peers in order; builds of ingressd come last. Missing when there is no backend."""
    folder.chmod(0o755)
    cert_file, key_file = write_certificate(folder)
    (backend_port,) = free_ports(1)
    load = [stack.enter_context(start_backend(folder / "backend", backend_port, sizes=sizes))]
    commands: dict[str, Command] = {}
    for name in names:
        if name == "haproxy":
            commands[name] = lambda place: _haproxy(stack, place, load)
        else:
            commands[name] = PEERS[name]
    for label, build in builds.items():
        commands[label] = lambda place, build=build: ingressd.command(place, build=build)
    peers: list[Peer] = []
    missing: dict[str, str] = {}
    for name, command in commands.items():
        place = _place(folder / name, backend_port, cert_file=cert_file, key_file=key_file)
        try:
            running = stack.enter_context(Running(name, command(place), folder=place.folder, cpu=PROXY_CPU))
            running.wait_ready(place.http_port)
            running.wait_ready(place.https_port, tls=True)
            peers.append(Peer(name, place, running, tuple(load)))
        except MissingError as exc:
            missing[name] = str(exc)
    return Field(peers, missing)


def _place(folder: Path, backend_port: int, *, cert_file: Path, key_file: Path) -> Place:
    folder.mkdir()
    http, https, admin = free_ports(3)
    return Place(folder, http, https, admin, backend_port, cert_file, key_file)


def _haproxy(stack: contextlib.ExitStack, place: Place, load: list[Running]) -> list[str]:
    (port,) = free_ports(1)
    command = haproxy.command(place, syslog_port=port)
    sink = [sys.executable, str(Path(__file__).with_name("syslog_sink.py")), str(port), str(place.access_log)]
    (place.folder / "sink").mkdir()
    load.append(stack.enter_context(Running("syslog sink", sink, folder=place.folder / "sink", cpu=LOAD_CPU)))
    return command
