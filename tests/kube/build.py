"""Build the real Kubernetes that tests/kube runs, once, from Go modules, and find what was built.

    python tests/kube/build.py [kubernetes] [helm] [kustomize] [etcd]
    python tests/kube/build.py --possible

Without an argument everything is built. Prints one path a line. `--possible` builds nothing, and fails, saying why,
where there is no Go that could. Standard library only, so that it runs before any virtual environment exists. The first
build takes about six minutes on two cores; afterwards it returns at once.

What is built is pinned, transitive dependencies and their hashes too, by the `go.mod` and `go.sum` in
`binaries/<module>/`. Results live in `$INGRESSD_KUBE_CACHE`, by default `${XDG_CACHE_HOME:-~/.cache}/ingressd-kube`,
in a folder named after the version and a digest of those two files. etcd is Debian's: the package is unpacked into the
same cache, not installed, so no service is started and root is not needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PINS = Path(__file__).with_name("binaries")

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "kubernetes": (
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kubectl",
    ),
    "helm": ("helm.sh/helm/v4/cmd/helm",),
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5",),
}
"""Packages by the module folder that pins them."""

_LINKED_IN = {
    "kubernetes": ("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
    "helm": ("helm.sh/helm/v4/internal/version.version",),
    "kustomize": ("sigs.k8s.io/kustomize/api/provenance.version",),
}


class CannotBuildError(Exception):
    """This machine lacks something; the message says what."""


def cache() -> Path:
    """The folder that outlives checkouts."""
    chosen = os.environ.get("INGRESSD_KUBE_CACHE")
    if chosen:
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingressd-kube"


def version(module: str) -> str:
    """The pinned version of a module folder, such as v1.36.3."""
    prefix = re.escape(PACKAGES[module][0].split("/cmd/")[0])
    found = re.search(rf"^require {prefix} (\S+)$", (PINS / module / "go.mod").read_text(), re.MULTILINE)
    assert found, f"{module}/go.mod requires no {prefix}"
    return found[1]


def folder(module: str) -> Path:
    """Where the binaries of a module are, or will be."""
    pins = b"".join((PINS / module / name).read_bytes() for name in ("go.mod", "go.sum"))
    return cache() / f"{module}-{version(module)}-{hashlib.sha256(pins).hexdigest()[:8]}"


def built(module: str) -> bool:
    """Are its binaries there?"""
    return folder(module).is_dir()


def binary(name: str) -> Path:
    """The path of one binary: kube-apiserver, kube-controller-manager, kubectl, helm, kustomize or etcd."""
    if name == "etcd":
        return _etcd()
    for module, packages in PACKAGES.items():
        if name in {re.sub(r"/v\d+$", "", package).rsplit("/", 1)[1] for package in packages}:
            return folder(module) / name
    raise KeyError(name)


def build(module: str) -> list[Path]:
    """Build one module's binaries unless they are there; their paths. Raises CannotBuildError."""
    if module == "etcd":
        return [_etcd()]
    target = folder(module)
    with _locked(module):
        if not target.is_dir():
            _build(module, target)
    return sorted(target.iterdir())


def _build(module: str, target: Path) -> None:
    go = _go()
    release = version(module)
    major, minor = release.removeprefix("v").split(".")[:2]
    values = dict.fromkeys(_LINKED_IN[module], release)
    if module == "kubernetes":
        values |= {
            "k8s.io/component-base/version.gitMajor": major,
            "k8s.io/component-base/version.gitMinor": minor,
            "k8s.io/component-base/version.gitTreeState": "clean",
        }
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])
    print(f"building {module} {release} into {target} (once; minutes)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".building-") as pending:
        command = ["nice", "-n", "10", go, "build", "-C", str(PINS / module), "-p", str(os.cpu_count() or 2)]
        command += ["-trimpath", "-ldflags", flags, "-o", f"{pending}/bin/", *PACKAGES[module]]
        Path(pending, "bin").mkdir()
        environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off", "CGO_ENABLED": "0"}
        code = subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode
        if code:
            raise CannotBuildError(f"go build of {module} {release} failed (exit code {code}); its messages are above")
        Path(pending, "bin").replace(target)


def _go() -> str:
    needed = re.search(r"^go (\d+)\.(\d+)", (PINS / "kubernetes" / "go.mod").read_text(), re.MULTILINE)
    assert needed
    wanted = int(needed[1]), int(needed[2])
    says = f"needs Go {wanted[0]}.{wanted[1]} or newer on PATH"
    go = shutil.which("go")
    if go is None:
        raise CannotBuildError(f"{says}; there is no `go`")
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, cwd="/", check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", answer)
    if found is None or (int(found[1]), int(found[2])) < wanted:
        raise CannotBuildError(f"{says}; {go} is {answer.strip() or 'no Go'}")
    return go


def _etcd() -> Path:
    """etcd on PATH, else Debian's package unpacked into the cache."""
    installed = shutil.which("etcd")
    if installed:
        return Path(installed)
    target = cache() / "etcd-server"
    with _locked("etcd"):
        if not (target / "usr/bin/etcd").exists():
            _unpack_etcd(target)
    return target / "usr/bin/etcd"


def _unpack_etcd(target: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CannotBuildError("needs etcd 3.4 or newer on PATH (Debian and Ubuntu have it as etcd-server)")
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".building-") as pending:
        download = ["apt-get", "download", "etcd-server"]
        done = subprocess.run(download, cwd=pending, stdout=sys.stderr, check=False).returncode == 0
        if not done and os.geteuid() == 0:
            subprocess.run(["apt-get", "update"], stdout=sys.stderr, check=False)
            done = subprocess.run(download, cwd=pending, stdout=sys.stderr, check=False).returncode == 0
        if not done:
            raise CannotBuildError("needs etcd on PATH, or package lists that know etcd-server (apt-get update)")
        package = next(Path(pending).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), f"{pending}/root"], check=True)
        Path(pending, "root").replace(target)


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """One build of a module at a time on this machine: a second caller waits for the first one's result."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Build what is asked for; 1 when this machine cannot."""
    known = [*PACKAGES, "etcd"]
    if arguments == ["--possible"]:
        try:
            if not all(built(module) for module in PACKAGES):
                _go()
        except CannotBuildError as error:
            print(f"tests/kube: {error}", file=sys.stderr)
            return 1
        return 0
    unknown = set(arguments) - set(known)
    if unknown:
        print(f"{sorted(unknown)} is none of {known}", file=sys.stderr)
        return 2
    try:
        for module in arguments or known:
            for path in build(module):
                print(path)
    except CannotBuildError as error:
        print(f"tests/kube: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
