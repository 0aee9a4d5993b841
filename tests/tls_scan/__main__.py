"""Scan a real ingressd with default settings, by sslscan and testssl.sh, and judge what they say.

    PYTHONPATH=tests python -m tls_scan [sslscan] [testssl]
    PYTHONPATH=tests python -m tls_scan --possible

Ends with 1 when there is a finding of medium severity or above, and with 2 where a scanner is not installed (Debian:
`apt-get install sslscan testssl.sh`). `--possible` scans nothing and only says whether both are there. Once for a
certificate with an EC key and once for RSA, a minute and a half each. The application behind the proxy sends the header
fields that testssl.sh wants of applications: they are not the proxy's to set.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from stage.running import Ingressd, running

from tls_scan import judge

SCANNERS: Final = ("sslscan", "testssl")
PATIENCE_S: Final = 900
NAME: Final = "localhost"
"""testssl.sh resolves the name that it is given."""


class Application(BaseHTTPRequestHandler):
    """What stands behind the proxy."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (
            ("X-Frame-Options", "DENY"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'self'"),
            ("Referrer-Policy", "no-referrer"),
            ("Content-Length", "0"),
        ):
            self.send_header(name, value)
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def main(arguments: list[str]) -> int:
    """The program; its exit code."""
    missing = [name for name in SCANNERS if shutil.which(name) is None]
    if missing or arguments == ["--possible"]:
        for name in missing:
            print(f"{name} is not installed: apt-get install sslscan testssl.sh", file=sys.stderr)
        return 2 if missing else 0
    chosen = [name for name in SCANNERS if name in arguments] or list(SCANNERS)
    findings = 0
    for kind in ("EC", "RSA"):
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder), kind) as ingressd:
            for name in chosen:
                found = scan(name, ingressd, Path(folder))
                findings += len(found)
                print(f"{name}, {kind} certificate: {len(found)} findings of medium severity or above", flush=True)
                for line in found:
                    print(f"  {line}")
    return 1 if findings else 0


def scan(name: str, ingressd: Ingressd, folder: Path) -> list[str]:
    """The findings of one scanner."""
    host, port = ingressd.https
    report = folder / f"{name}.report"
    if name == "sslscan":
        command = ["sslscan", "--no-colour", f"--sni-name={NAME}", f"--xml={report}", f"{host}:{port}"]
    else:
        quiet = ["--quiet", "--color", "0", "--warnings", "off"]
        command = ["testssl", *quiet, "--ip", host, "--jsonfile", str(report), f"https://{NAME}:{port}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S)
    if not report.exists():
        return [f"{name} ended with {done.returncode} and no report: {done.stderr or done.stdout}"]
    text = report.read_text()
    if name == "sslscan":
        return judge.of_sslscan(text)
    for line in judge.unchecked_by_testssl(text):
        print(f"  not checked: {line}")
    return judge.of_testssl(text)


@contextlib.contextmanager
def serving(folder: Path, kind: str) -> Iterator[Ingressd]:
    """ingressd as it is without any setting, before an application."""
    application = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    write_pair(folder, kind)
    try:
        with running(
            folder,
            routes=[{"host": NAME, "path": "/", "upstream": "application"}],
            upstreams={"application": {"endpoints": [f"127.0.0.1:{application.server_address[1]}"]}},
            tls=[{"hosts": [NAME], "certFile": "scan.crt", "keyFile": "scan.key"}],
        ) as ingressd:
            yield ingressd
    finally:
        application.shutdown()
        application.server_close()


def write_pair(folder: Path, kind: str) -> None:
    """A certificate as a public authority would issue it, but for its issuer."""
    issuer_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scan authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=180))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    (folder / "scan.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "scan.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
