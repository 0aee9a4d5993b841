"""nginx and HAProxy as upstreams: how many requests do they find in what the data plane lets through?"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from cases.grammar import read_answers, read_requests
from fuzz.exchanges import ExchangeChecker
from fuzz.mutate import ROUTED, Mutator
from stage.ports import Address, free_address

RAW = Path(__file__).parents[1] / "cases" / "raw"
LAST = b"GET /__last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n"
AMBIGUOUS = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nContent-Length: 0\r\n\r\nGET /x"
MUTATED = 3000

NGINX = """
daemon off; master_process off; worker_processes 1; error_log {folder}/error.log; pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 0; large_client_header_buffers 8 64k; keepalive_requests 10000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen {host}:{port}; location / {{ add_header X-T $request_uri; return 200 ok; }} }}
}}
"""
HAPROXY = """
global
  tune.bufsize 65536
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend all
  bind {host}:{port}
  http-request return status 200 content-type text/plain string ok hdr X-T %[pathq]
"""


def streams() -> list[bytes]:
    """What upstreams are sent when clients send the raw cases and messages that are nearly right: whole requests only.

    Left out are streams that end in an offer to upgrade, behind which nothing is ever sent, and those with an empty
    Host, which RFC 9112 section 3.2 asks us to send where there was none, and nginx does not take.
    """
    checker = ExchangeChecker(seed=5)
    mutator = Mutator(ROUTED, seed=5)
    inputs = [mutator.next() for _ in range(MUTATED)]
    for path in sorted(RAW.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text("ascii")):
            steps = [case["send"]] if isinstance(case["send"], str) else case["send"]
            maps = [{"send": step} if isinstance(step, str) else step for step in steps]
            sent = b"".join(step.get("send", "").encode("latin-1") * step.get("times", 1) for step in maps)
            inputs.append(sent[:200_000].replace(b"a.test", b"a.example").replace(b"b.test", b"b.example"))
    found: dict[bytes, None] = {}
    for data in inputs:
        for stream in checker.play([data]).streams:
            requests = read_requests(stream, upgrades=True).requests
            if all(one.complete and one.all("host") != [""] and not one.all("upgrade") for one in requests):
                found[stream] = None
    checker.close()
    return list(found)


@contextlib.contextmanager
def serving(name: str, folder: Path) -> Iterator[Address]:
    """nginx or HAProxy, answering every request with its target in X-T. FileNotFoundError where it is not installed."""
    if (program := shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")) is None:
        raise FileNotFoundError(f"{name} is not installed")
    address = free_address()
    config = folder / f"{name}.conf"
    text = {"nginx": NGINX, "haproxy": HAPROXY}[name]
    config.write_text(text.format(folder=folder, host=address[0], port=address[1]))
    options = ["-p", str(folder), "-e", str(folder / "error.log"), "-c"] if name == "nginx" else ["-db", "-f"]
    with running([program, *options, str(config)], address):
        yield address


@contextlib.contextmanager
def running(command: list[str], address: Address) -> Iterator[Address]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            with contextlib.suppress(OSError), socket.create_connection(address, 1):
                break
            assert time.monotonic() < until, "never listened"
            time.sleep(0.02)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stderr:
            process.stderr.close()


def counted(address: Address, stream: bytes) -> int:
    """How many requests a server answers before the last one; -1 when it does not come to that."""
    with socket.create_connection(address, 5) as sock:
        sock.sendall(stream + LAST)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                received += data
    methods = [request.method for request in read_requests(stream, upgrades=True).requests]
    answers = read_answers(received, methods)
    final = [answer for answer in answers if answer.status >= 200]
    if not final or any(answer.status != 200 for answer in final) or final[-1].all("x-t") != ["/__last"]:
        return -1
    return len(final) - 1


def differences(address: Address, egress: list[bytes]) -> dict[bytes, tuple[int, int]]:
    """The streams in which that server finds another number of requests, each with our number and its."""
    found = {}
    for stream in egress:
        ours = len(read_requests(stream, upgrades=True).requests)
        if (theirs := counted(address, stream)) != ours:
            found[stream[:300]] = (ours, theirs)
    return found
