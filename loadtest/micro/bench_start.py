"""Start-up and memory in a big cluster: a fake API server in a process of its own, a real `ingressd run`.

Run: .venv-bench/bin/python loadtest/micro/bench_start.py [INGRESSES] [--ingressd PROGRAM] [--runs N]
Goals with 10,000 Ingresses, Services and EndpointSlices and 1,000 certificates: ready in 3 s, controller 150 MiB, and
never ready before every route serves. Also said: the CPU that each process's main thread took, and how long others on
the machine made it wait for one: on a quiet machine that is next to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from stage.apiserver.server import FakeApiServer  # noqa: E402
from stage.ports import free_port  # noqa: E402

from loadtest import procfs  # noqa: E402
from loadtest.micro.start_world import TLS_EVERY, host, objects  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WAIT_S = 60.0
REST_S = 5.0
SAMPLE = 40


# --- the cluster, in a process of its own -----------------------------------------------------------------------------
def serve_cluster(count: int, folder: Path) -> None:
    """Serve the objects and an upstream that answers on every loopback address, until stdin ends."""
    port = free_port()
    with FakeApiServer(tls=True, token="bench") as server:
        server.load(objects(count, port))
        server.write_kubeconfig(folder)
        print("ready", flush=True)
        asyncio.run(_upstream(port))


async def _upstream(port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", port)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def cluster(count: int, folder: Path) -> Iterator[None]:
    """Such a process."""
    argv = [sys.executable, __file__, str(count), "--serve", str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the fake cluster did not start"
        try:
            yield
        finally:
            process.stdin.close()


# --- one start --------------------------------------------------------------------------------------------------------
def ask(port: int, name: str, path: str, *, tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """The status of one request (0 without an answer) and the server's certificate in DER."""
    request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as plain, contextlib.ExitStack() as stack:
            sock = plain if tls is None else stack.enter_context(tls.wrap_socket(plain, server_hostname=name))
            certificate = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
            sock.sendall(request)
            head = sock.recv(4096)
            return int(head[9:12] or b"0"), certificate or b""
    except (OSError, ValueError):
        return 0, b""


def wrong_answers(count: int, http: int, https: int) -> list[str]:
    """What does not serve of a sample of hosts."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    found = []
    for index in random.sample(range(count), min(SAMPLE, count)):
        if index % TLS_EVERY == 0:
            status, certificate = ask(https, host(index), "/", tls=tls)
            if status != 200 or host(index).encode() not in certificate:
                found.append(f"https {host(index)}: {status}, its certificate: {host(index).encode() in certificate}")
        else:
            status, _ = ask(http, host(index), "/")
            if status != 200:
                found.append(f"http {host(index)}: {status}")
    return found


def role(pid: int) -> str:
    """What a process of the tree is, by its command line."""
    words = (procfs.PROC / str(pid) / "cmdline").read_text().split("\0")
    for word in ("controller", "worker"):
        if word in words:
            return word
    return "supervisor"


def report(root: int, when: str) -> None:
    """One line for each process."""
    for pid in sorted(procfs.tree(root)):
        rollup = (procfs.PROC / str(pid) / "smaps_rollup").read_text()
        pss, rss = (procfs.parse_kib(rollup, key) / 1024 for key in ("Pss", "Rss"))
        ran, waited, _ = (int(word) / 1e9 for word in (procfs.PROC / str(pid) / "schedstat").read_text().split())
        print(
            f"  {when:12} {role(pid):11} PSS {pss:6.1f} MiB  RSS {rss:6.1f} MiB  "
            f"CPU {ran:5.2f} s, waited for one {waited:5.2f} s"
        )


def run_once(count: int, program: str, folder: Path, memory: Path, *, away: bool = False) -> float:
    """Start, wait, look, stop; the seconds from the start of the process to the first 200 of /readyz.

    `memory` is for the snapshot. With `away` the cluster is gone, its pods too.
    """
    http, https, admin = free_port(), free_port(), free_port()
    config = folder / "ingressd.yaml"
    settings = {
        "workers": 2,
        "listeners": [
            {"name": "http", "address": f"127.0.0.1:{http}", "protocol": "HTTP"},
            {"name": "https", "address": f"127.0.0.1:{https}", "protocol": "HTTPS"},
        ],
        "admin": {"address": f"127.0.0.1:{admin}"},
        "accessLog": {"path": ""},
        "kubernetes": {"kubeconfig": str(folder / "kubeconfig.yaml"), "snapshotDir": str(memory)},
    }
    config.write_text(yaml.safe_dump(settings))
    output = folder / "output.log"
    began_s = time.monotonic()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [program, "run", "--config", str(config)], stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        while ask(admin, "admin", "/readyz")[0] != 200:
            if process.poll() is not None or time.monotonic() - began_s > WAIT_S:
                raise SystemExit(f"not ready:\n{output.read_text()}")
            time.sleep(0.005)
        ready_s = time.monotonic() - began_s
        if away:
            print(f"without the cluster: ready after {ready_s:.2f} s")
        else:
            wrong = wrong_answers(count, http, https)
            print(f"ready after {ready_s:.2f} s; of {min(SAMPLE, count)} hosts then {len(wrong)} wrong {wrong[:3]}")
        report(process.pid, "when ready")
        time.sleep(REST_S)
        report(process.pid, "at rest")
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
    return ready_s


def main() -> None:
    """Print what each run took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ingresses", nargs="?", type=int, default=10_000)
    parser.add_argument("--ingressd", default=str(Path(sys.executable).with_name("ingressd")))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_cluster(options.ingresses, options.serve)
        return
    count, program = options.ingresses, options.ingressd
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        folder, snapshot = Path(name), Path(memory, "objects")
        with cluster(count, folder):
            times = [run_once(count, program, folder, Path(memory)) for _ in range(options.runs)]
        print(f"the snapshot has {snapshot.stat().st_size / 1024:.0f} KiB")
        run_once(count, program, folder, Path(memory), away=True)
    print(f"{options.ingresses} Ingresses: ready after {min(times):.2f} to {max(times):.2f} s")


if __name__ == "__main__":
    main()
