"""Keys, tokens and passwords, good ones and broken ones, and everything that a real process says about them.

Each test gives ingressd secrets, makes it stumble over them, and looks for any piece of them in all that people and
other programs read: log, access log, admin listener, Events, command lines, environments, `check`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stage.apiserver.faults import Truncate
from stage.apiserver.server import FakeApiServer
from stage.certificates import Pair, selfsigned
from stage.load import pid_of
from stage.ports import free_address, spelled
from stage.running import PROGRAM, Ingressd, running
from stage.wire import Client, ask, client_tls

pytestmark = pytest.mark.process

PATHS = ("/", "/metrics", "/debug/snapshot", "/debug/statuses", "/debug/problems", "/readyz", "/debug/")
CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "ingressd"},
    "spec": {"controller": "ingressd.dev/ingress-controller"},
}


def texts_of(value: bytes) -> list[bytes]:
    """A text, and its base64 wherever in a longer text it begins."""
    return [value, *(base64.b64encode(value[skipped:]) for skipped in range(3))]


def spellings(value: bytes) -> set[bytes]:
    """Pieces by which a secret is known, however it is written."""
    lines = [line for text in texts_of(value) for line in text.splitlines() if not line.startswith(b"-----")]
    pieces = {line[at : at + 24] for line in lines for at in range(0, max(len(line) - 23, 1), 16)}
    return {piece for piece in pieces if len(piece) >= 12}


def shown(texts: dict[str, bytes], hidden: Iterable[bytes], *, public: Iterable[bytes] = ()) -> list[str]:
    """Where a secret shows. `public` are certificates: a key holds its public half too."""
    known = b" ".join(text for value in public for text in texts_of(value))
    pieces = {piece for value in hidden for piece in spellings(value) if piece not in known}
    assert pieces
    return [f"{where}: {piece!r}" for where, text in texts.items() for piece in pieces if piece in text]


def said(ingressd: Ingressd) -> dict[str, bytes]:
    """All that a running process says."""
    texts = {path: ask(ingressd.admin, path).body for path in PATHS}
    assert b"certificate/" in texts["/debug/snapshot"]
    texts["output"] = ingressd.output().encode()
    texts["access log"] = ingressd.access_log.read_bytes() if ingressd.access_log.exists() else b""
    for pid in [ingressd.process.pid, *ingressd.children()]:
        with contextlib.suppress(OSError):
            # A core file would hold them all.
            assert re.search(r"Max core file size +0 ", Path(f"/proc/{pid}/limits").read_text())
            texts[f"words of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
            texts[f"environment of {pid}"] = Path(f"/proc/{pid}/environ").read_bytes()
    return texts


def checked(folder: Path) -> dict[str, bytes]:
    """What `check` and `explain` say of the same configuration."""
    out = {}
    for words in (["check"], ["explain", "https://good.test/"]):
        ran = subprocess.run(
            [PROGRAM, *words, "--config", folder / "ingressd.yaml"], capture_output=True, cwd=folder, timeout=120
        )
        out[" ".join(words)] = ran.stdout + ran.stderr
        assert b"Traceback" not in ran.stderr
    return out


def write_pair(folder: Path, name: str, cert: bytes, key: bytes) -> dict[str, str]:
    (folder / f"{name}.crt").write_bytes(cert)
    (folder / f"{name}.key").write_bytes(key)
    return {"certFile": f"{name}.crt", "keyFile": f"{name}.key"}


def ingress(name: str, *, secret: str) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": f"{name}.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    spec = {"ingressClassName": "ingressd", "rules": [rule], "tls": [{"hosts": [rule["host"]], "secretName": secret}]}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def secret(name: str, cert: bytes, key: bytes) -> dict[str, Any]:
    data = {"tls.crt": base64.b64encode(cert).decode(), "tls.key": base64.b64encode(key).decode()}
    value = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "data": data}
    # As `kubectl apply` leaves it: the content once more, in an annotation.
    last = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(value)}
    return {**value, "type": "kubernetes.io/tls", "metadata": {**value["metadata"], "annotations": last}}


def broken_secrets(good: Pair, other: Pair) -> dict[str, tuple[bytes, bytes]]:
    """What people put into Secrets, and cannot be used."""
    half = len(good.key) // 2
    return {
        "swapped": (good.key, good.cert),
        "not-a-pair": (good.cert, other.key),
        "cut-short": (good.cert, good.key[:half]),
        "two-keys": (good.cert[:-40] + other.key, good.key),
        "no-certificate": (b"", good.key),
        "der": (good.cert, b"".join(base64.b64decode(line) for line in good.key.splitlines()[1:-1])),
    }


@pytest.fixture
def pairs() -> tuple[Pair, Pair, Pair]:
    selfsigned.cache_clear()
    return selfsigned("good.test", "*.test"), selfsigned("other.test"), selfsigned("hook.test")


@pytest.fixture
def stumbling(tmp_path: Path, pairs: tuple[Pair, Pair, Pair]) -> Iterator[Ingressd]:
    """Certificates from the file, from manifests and for the webhook: good ones, and each that is broken."""
    good, other, hook = pairs
    tls: list[dict[str, Any]] = [{"hosts": ["good.test"], **write_pair(tmp_path, "good", good.cert, good.key)}]
    # One file for both, as HAProxy has it.
    together = write_pair(tmp_path, "together", good.cert + good.key, good.cert + good.key)
    tls.append({"hosts": ["together.test"], **together})
    manifests = tmp_path / "k8s"
    manifests.mkdir()
    documents: list[Any] = [CLASS, ingress("good", secret="good"), secret("good", good.cert, good.key)]
    documents += [ingress("bundle", secret="bundle"), secret("bundle", good.cert + good.key, good.key)]
    for name, (cert, key) in broken_secrets(good, other).items():
        documents += [ingress(name, secret=name), secret(name, cert, key)]
        tls.append({"hosts": [f"{name}.file.test"], **write_pair(tmp_path, name, cert, key)})
    (manifests / "all.yaml").write_text(yaml.safe_dump_all(documents))
    upstream = {"endpoints": ["127.0.0.1:9"], "tls": {"verify": False, **together, "caFile": "together.crt"}}
    admission = {"address": spelled(free_address()), **write_pair(tmp_path, "hook", hook.cert, hook.key)}
    with running(
        tmp_path,
        log={"level": "debug", "format": "json"},
        tls=tls,
        manifests=["k8s"],
        upstreams={"up": upstream},
        routes=[{"host": "good.test", "path": "/up", "upstream": "up"}],
        admission=admission,
    ) as ingressd:
        yield ingressd


def test_certificates_good_and_broken(stumbling: Ingressd, pairs: tuple[Pair, Pair, Pair]) -> None:
    hidden, public = [pair.key for pair in pairs], [pair.cert for pair in pairs]
    folder = stumbling.folder
    assert ask(stumbling.https, "/up", host="good.test", tls=client_tls(), server_name="good.test").status == 502
    texts = said(stumbling)
    assert texts["/debug/problems"].count(b"InvalidCertificate") >= 10
    assert b"[redacted]" in texts["/debug/snapshot"]
    assert shown({**texts, **checked(folder)}, hidden, public=public) == []
    # Worse while it runs: the last good versions stay, the webhook's too.
    (folder / "hook.key").write_bytes(pairs[2].key[:-60])
    (folder / "good.crt").write_bytes(pairs[0].key)
    stumbling.wait_until(lambda: ask(stumbling.admin, "/debug/problems").text.count("last good") >= 2)
    os.kill(pid_of(stumbling, "worker 0"), signal.SIGKILL)
    os.kill(pid_of(stumbling, "controller"), signal.SIGKILL)
    stumbling.wait_until(lambda: stumbling.ask_admin("/readyz") == 200)
    assert shown(said(stumbling), hidden, public=public) == []


@pytest.mark.parametrize("file", ["keyFile", "certFile"])
@pytest.mark.parametrize("lines", ["\n", " "], ids=["as it is", "folded by YAML"])
def test_a_key_in_place_of_its_files_name(
    tmp_path: Path, pairs: tuple[Pair, Pair, Pair], file: str, lines: str
) -> None:
    good = pairs[0]
    entry = {**write_pair(tmp_path, "good", good.cert, good.key), file: good.key.decode().replace("\n", lines)}
    first = {"hosts": ["first.test"], **write_pair(tmp_path, "first", good.cert, good.key)}
    with running(tmp_path, log={"level": "debug"}, tls=[first]) as ingressd:
        ingressd.config["tls"].append({"hosts": ["good.test"], **entry})
        ingressd.write_config()
        ingressd.wait_until(lambda: "InvalidConfig" in ask(ingressd.admin, "/debug/problems").text)
        assert shown({**said(ingressd), **checked(tmp_path)}, [good.key], public=[good.cert]) == []


def test_passwords_that_yaml_takes_for_something_else(tmp_path: Path, pairs: tuple[Pair, Pair, Pair]) -> None:
    words = ("*{}", "!{}", "!!int {}", "!!binary {}", "!<{}> x", "&{} *x", "'{}", '"{}\\q"', "{}: {}: x", "[{}", "}{}")
    words += ("@{}", "%{}", "`{}", "\t{}", "|{}", "[{}]", "{} # {}\n{}")
    passwords, documents = [], []
    for number, word in enumerate(words):
        passwords.append("hunter2-" + secrets.token_hex(16))
        head = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s{number}}}\nstringData:\n  password: "
        documents.append(head + word.replace("{}", passwords[-1]) + "\n")
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s/s.yaml").write_text("---\n".join(documents))
    first = {"hosts": ["first.test"], **write_pair(tmp_path, "first", pairs[0].cert, pairs[0].key)}
    with running(tmp_path, tls=[first], manifests=["k8s"]) as ingressd:
        texts = {**said(ingressd), **checked(tmp_path)}
        assert texts["/debug/problems"].count(b"s.yaml") > len(words) // 2
        assert shown(texts, [password.encode() for password in passwords]) == []


def test_what_clients_send(stumbling: Ingressd) -> None:
    word = secrets.token_hex(24)
    fields = [
        f"Authorization: Bearer {word}",
        f"Cookie: session={word}",
        f"Proxy-Authorization: Basic {word}",
        f"Authorization: Bearer {word}\x01",
        f"Authorization : Bearer {word}",
        f"Content-Length: {word}",
        f"Transfer-Encoding: {word}",
        f" {word}: folded",
    ]
    for field in fields:
        with Client(stumbling.http) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: good.test\r\n{field}\r\n\r\n".encode())
            client.receive()
    with Client(stumbling.http) as client:
        client.send(f"POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 48\r\n\r\n{word}".encode())
        client.receive()
    assert len(stumbling.access_lines(count=2)) > 1
    assert shown(said(stumbling), [word.encode()]) == []


def of_cluster(server: FakeApiServer) -> dict[str, bytes]:
    """What ingressd wrote into the cluster."""
    events = [request.body for request in server.requests if request.method in ("POST", "PATCH", "PUT")]
    return {"written into the cluster": b"\n".join(events)}


def test_a_cluster_its_token_and_its_secrets(tmp_path: Path, pairs: tuple[Pair, Pair, Pair]) -> None:
    good, other, _ = pairs
    token = "token-" + secrets.token_hex(24)
    hidden, public = [good.key, other.key, token.encode()], [good.cert, other.cert]
    with FakeApiServer(tls=True, token=token) as server:
        server.load([CLASS, ingress("good", secret="good"), secret("good", good.cert, good.key)])
        for name, (cert, key) in broken_secrets(good, other).items():
            server.load([ingress(name, secret=name), secret(name, cert, key)])
        malformed = secret("malformed", good.cert, good.key)
        malformed["data"]["tls.key"] += "!"
        server.load([ingress("malformed", secret="malformed"), malformed])
        kubeconfig = server.write_kubeconfig(tmp_path)
        kubernetes = {"kubeconfig": str(kubeconfig), "snapshotDir": "/dev/shm"}
        with running(tmp_path, log={"level": "debug"}, kubernetes=kubernetes) as ingressd:
            ingressd.wait_until(lambda: ask(ingressd.admin, "/debug/problems").text.count("InvalidCertificate") >= 5)
            assert "malformed" in ask(ingressd.admin, "/debug/problems").text
            ingressd.wait_until(lambda: of_cluster(server)["written into the cluster"].count(b"InvalidCertificate") > 4)
            # Answers that end in the middle of a Secret.
            with server.fault(Truncate(), "/api/v1/"):
                server.apply(secret("good", good.cert + b"\n", good.key))
                ingressd.wait_until(lambda: "cannot be read" in ask(ingressd.admin, "/debug/problems").text)
                assert shown({**said(ingressd), **of_cluster(server)}, hidden, public=public) == []
            # The token is no longer taken, and the kubeconfig is broken just there.
            server.token = "another"
            whole = kubeconfig.read_text()
            kubeconfig.write_text(whole.replace(f"token: {token}", f"token: *{token}"))
            assert kubeconfig.read_text() != whole
            with server.fault(Truncate(), times=1):
                server.apply(ingress("new", secret="good"))
            ingressd.wait_until(lambda: "credentials of the API server cannot be read" in ingressd.output())
            assert shown({**said(ingressd), **of_cluster(server)}, hidden, public=public) == []
