"""`make run`: four small upstreams, ingressd in front of them from examples/ingressd.yaml, and commands to try.

Ends with Ctrl-C or SIGTERM, and ends what it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from demo_upstream import serve

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "ingressd.yaml"
UPSTREAMS = {"web-1": 9001, "web-2": 9002, "api-1": 9003, "api-2": 9004}
HTTP, HTTPS, ADMIN = 8080, 8443, 10254
READY_WITHIN_S = 30.0

TRY = f"""
ingressd is ready. Try it from another terminal:

# every host goes to the two endpoints of web, in turn
curl http://127.0.0.1:{HTTP}/hello
# a longer path prefix wins
curl "http://127.0.0.1:{HTTP}/api/items?page=2"
# HTTPS, with the certificate of examples/certs
curl -k --resolve shop.example.com:{HTTPS}:127.0.0.1 https://shop.example.com:{HTTPS}/
# an Ingress from examples/k8s
curl -H "Host: guestbook.example.com" http://127.0.0.1:{HTTP}/sign
# a request body, streamed
curl -d "some form data" http://127.0.0.1:{HTTP}/api/orders
# server-sent events, line by line
curl -N http://127.0.0.1:{HTTP}/sse
# readiness, metrics, and the configuration that is live
curl http://127.0.0.1:{ADMIN}/readyz
curl http://127.0.0.1:{ADMIN}/metrics
curl http://127.0.0.1:{ADMIN}/debug/snapshot

Edit examples/ingressd.yaml or examples/k8s/guestbook.yaml: saving is enough. The same in a browser: http://127.0.0.1:{ADMIN}/
Below is the access log, one line a request, and what ingressd says about changes. Ctrl-C ends the demo.
"""


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for shop.example.com, unless one of the last 20 days is there."""
    certificate, key_file = folder / "shop.crt", folder / "shop.key"
    if certificate.exists() and time.time() - certificate.stat().st_mtime < 20 * 86400:
        return
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def taken_ports() -> list[int]:
    """The ports of the demo that somebody else listens on."""
    taken = []
    for port in (*UPSTREAMS.values(), HTTP, HTTPS, ADMIN):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(port)
    return taken


async def is_ready() -> bool:
    """Does /readyz say 200?"""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        timeout = aiohttp.ClientTimeout(total=1)
        async with aiohttp.request("GET", f"http://127.0.0.1:{ADMIN}/readyz", timeout=timeout) as response:
            return response.status == 200
    return False


async def wait_ready(ended: asyncio.Task[int]) -> bool:
    """Wait until ingressd is ready; False when it ended or takes too long."""
    until = time.monotonic() + READY_WITHIN_S
    while not await is_ready():
        if ended.done() or time.monotonic() > until:
            return False
        await asyncio.sleep(0.05)
    return True


async def main() -> int:
    """Start everything, say what to try, wait for the end; the exit code."""
    if taken := taken_ports():
        listed = ", ".join(str(port) for port in taken)
        print(f"Something listens already on 127.0.0.1 port {listed}: end it, or change examples/ and try again.")
        return 1
    make_certificate(HERE / "certs")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    upstreams = [await serve(name, port) for name, port in UPSTREAMS.items()]
    program = str(Path(sys.executable).with_name("ingressd"))
    # A session of its own: Ctrl-C reaches us, and we end it in order.
    process = await asyncio.create_subprocess_exec(
        program, "run", "--config", str(CONFIG), start_new_session=True, stdin=asyncio.subprocess.DEVNULL
    )
    ended = asyncio.create_task(process.wait(), name="ingressd")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    ready = asyncio.create_task(wait_ready(ended), name="ready")
    await asyncio.wait([ready, stopping], return_when=asyncio.FIRST_COMPLETED)
    if ready.done() and ready.result():
        print(TRY, flush=True)
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
    elif ready.done() and not ended.done():
        print(f"ingressd was not ready within {READY_WITHIN_S:g} s.", flush=True)
    if not ended.done():
        process.terminate()
    code = await ended
    ready.cancel()
    stopping.cancel()
    for upstream in upstreams:
        await upstream.cleanup()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
