"""Execute the Dockerfile without a container engine, in Debian roots, and start what came of it.

    sudo python3 tests/deploy/try_dockerfile.py

Takes a few minutes; needs root, debootstrap, util-linux, a Debian mirror and a package index. Prints one line a step;
exit code 0 when the image would work. Standard library only.

What differs from a real build: the base image is Debian bookworm with Debian's own Python 3.11 (with its headers and
venv, which the real image has at /usr/local) instead of the pinned python image; layers, build cache and image metadata
do not exist; seccomp profile and cgroup limits are the machine's. The rest is as in a cluster: process, mount and
network namespaces of its own, read-only root, user 65532, no capabilities, no new privileges, ingressd as process 1.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from deploy.dockerfile import Ignore, Stage, context, parse

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-dev", "python3-venv", "python-is-python3")
NETWORK = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_")
"""Variables with which this machine reaches its package index; RUN gets them, the image does not."""
CERTIFICATES = Path("/etc/ssl/certs")
SNAPSHOT, ACCOUNT = "run/ingressd", "run/secrets/kubernetes.io/serviceaccount"
PRIVILEGES = ["--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--clear-groups"]


class BrokenError(Exception):
    """The Dockerfile does not do what it should; the message says where."""


def say(text: str) -> None:
    """One line of the report."""
    print(text, flush=True)


# --- building ---------------------------------------------------------------------------------------------------------


def base_root(cache: Path) -> Path:
    """A bookworm with Python, made once."""
    target = cache / f"{SUITE}.tar"
    if target.exists():
        return target
    say(f"debootstrap {SUITE} into {target} (once; minutes)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as pending:
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, f"{pending}/root"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tar", "-C", f"{pending}/root", "-cf", f"{target}.pending", "."], check=True)
    Path(f"{target}.pending").replace(target)
    return target


def build(stages: list[Stage], *, base: Path, work: Path) -> Path:
    """Execute every stage; the root of the last."""
    roots: dict[str, Path] = {}
    ignore = Ignore((ROOT / ".dockerignore").read_text())
    sent = work / "context"
    for path in context(ROOT, ignore):
        (sent / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, sent / path)
    for stage in stages:
        if stage.image in roots:
            raise BrokenError(f"FROM {stage.image}: a stage as a base is not known here")
        say(f"FROM {stage.image} (here: {SUITE} with Debian's Python)")
        root = roots[stage.name] = work / f"stage-{stage.name}"
        root.mkdir()
        subprocess.run(["tar", "-C", str(root), "-xf", str(base)], check=True)
        _execute(stage, root, roots=roots, sent=sent)
    return roots[stages[-1].name]


def _execute(stage: Stage, root: Path, *, roots: dict[str, Path], sent: Path) -> None:
    folder = "/"
    environment: dict[str, str] = {}
    for one in stage.instructions:
        began_s = time.monotonic()
        if one.name == "WORKDIR":
            folder = os.path.join(folder, one.text)
            (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif one.name == "ENV":
            environment |= _expanded(one.assignments(), environment)
        elif one.name == "COPY":
            source = one.option("from")
            _copy(one.words(), origin=roots[source] if source else sent, root=root, folder=folder)
        elif one.name == "RUN":
            _run(root, one.text, folder=folder, environment=environment)
        else:
            continue
        say(f"{one.name} {one.text[:90]} ({time.monotonic() - began_s:.0f} s)")


def _expanded(assignments: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    path = environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {name: value.replace("$PATH", path) for name, value in assignments.items()}


def _copy(words: list[str], *, origin: Path, root: Path, folder: str) -> None:
    *sources, target = words
    into = target.endswith("/")
    place = root / os.path.join(folder, target).lstrip("/")
    for source in sources:
        found = origin / source.lstrip("/")
        if not found.exists():
            raise BrokenError(f"COPY {source}: not in the build context")
        goal = place / found.name if into else place
        goal.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(found, goal, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(found, goal)


def _run(root: Path, command: str, *, folder: str, environment: dict[str, str]) -> None:
    """RUN in its shell form, as root, with this machine's way to its package indexes."""
    network = {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    network.pop("PIP_FIND_LINKS", None)
    setup = """
        mount -t proc proc "$0/proc"
        mount --rbind /dev "$0/dev"
        touch "$0/etc/resolv.conf"
        mount --bind /etc/resolv.conf "$0/etc/resolv.conf"
        test -d "$2" && mount --bind "$2" "$0$2"
        exec chroot "$0" /usr/bin/env -i "${@:3}" /bin/sh -c "$1"
    """
    variables = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "DEBIAN_FRONTEND": "noninteractive"}
    pairs = [f"{name}={value}" for name, value in {**variables, **network, **environment}.items()]
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-ec", setup]
    done = subprocess.run(
        [*isolated, str(root), f"cd {folder} && {command}", str(CERTIFICATES), *pairs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise BrokenError(f"RUN {command}: exit code {done.returncode}\n{done.stdout[-4000:]}")


# --- running ----------------------------------------------------------------------------------------------------------


class Container:
    """What came of the last stage, run as a cluster would. Lives in the namespaces of `inside`."""

    def __init__(self, root: Path, stage: Stage) -> None:
        self.root = root
        self.stage = stage
        environment: dict[str, str] = {}
        for one in stage.instructions:
            if one.name == "ENV":
                environment |= _expanded(one.assignments(), environment)
        self._environment = [f"{name}={value}" for name, value in environment.items()]
        user = stage.last("USER")
        if user is None or not user.text.split(":")[0].isdigit():
            raise BrokenError("USER must be a number, or runAsNonRoot cannot be checked")
        self.user, _, self.group = user.text.partition(":")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *command: str, environment: dict[str, str] | None = None) -> list[str]:
        """A command line that runs a command in the container."""
        added = [f"{name}={value}" for name, value in (environment or {}).items()]
        identity = [f"--reuid={self.user}", f"--regid={self.group or self.user}", *PRIVILEGES]
        return ["chroot", str(self.root), "setpriv", *identity, "env", "-i", *self._environment, *added, *command]

    def start(self, environment: dict[str, str]) -> None:
        """Entry point and command, as process 1, with further variables."""
        entry, command = self.stage.last("ENTRYPOINT"), self.stage.last("CMD")
        whole = [*(entry.arguments() if entry else ()), *(command.arguments() if command else ())]
        setup = f'mount -t proc proc "{self.root}/proc"; exec "$@"'
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", setup, "sh"]
        self.process = subprocess.Popen(
            [*isolated, *self.command(*whole, environment=environment)], stdin=subprocess.DEVNULL
        )

    def first(self) -> int:
        """The process id, from here, of its process 1."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def healthy(self) -> bool:
        """What HEALTHCHECK says."""
        check = self.stage.last("HEALTHCHECK")
        assert check is not None
        command = self.command(*check.arguments())
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=10).returncode == 0


def arrange(root: Path) -> None:
    """Mount around a root what a container runtime does, then make the root itself read-only."""
    for place in (SNAPSHOT, ACCOUNT):
        (root / place).mkdir(parents=True)
    devices = root / "dev"
    _do("mount", "--bind", str(root), str(root))
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(devices))
    for name in ("null", "zero", "random", "urandom"):
        (devices / name).touch()
        _do("mount", "--bind", f"/dev/{name}", str(devices / name))
    _do("mount", "-o", "remount,bind,ro", str(root))
    _do("mount", "-t", "proc", "proc", "/proc")
    _do("ip", "link", "set", "lo", "up")


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


def inside(root: Path) -> None:
    """The rest of the report, in mount, process and network namespaces that end with this process."""
    (stage,) = parse((ROOT / "Dockerfile").read_text())[-1:]
    arrange(root)
    container = Container(root, stage)
    version = subprocess.run(container.command("ingressd", "version"), check=True, capture_output=True, text=True)
    expect("compiled" in version.stdout, "the build is compiled", version.stdout)
    written = subprocess.run(container.command("touch", "/x"), check=False, capture_output=True, text=True)
    expect("Read-only file system" in written.stderr, "the root is read-only", written.stderr)
    expect(not container.healthy(), "HEALTHCHECK fails while nothing runs")
    for check in (look, look_in_a_cluster):
        try:
            check(container)
        finally:
            if container.process is not None:
                container.process.kill()
                container.process.wait()


def look_in_a_cluster(container: Container) -> None:
    """With the mounts and variables of deploy/base, and an API server that is away: alive, and never ready early."""
    say("with the ConfigMap of deploy/base and no API server:")
    config, account, snapshot = (container.root / place for place in ("etc/ingressd", ACCOUNT, SNAPSHOT))
    _do("mount", "--bind", "-o", "ro", str(ROOT / "deploy/base"), str(config))
    owned = f"uid={container.user},gid={container.group}"
    _do("mount", "-t", "tmpfs", "-o", f"{owned},mode=500", "tmpfs", str(account))
    _do("mount", "-t", "tmpfs", "-o", f"{owned},mode=2777,size=64m", "tmpfs", str(snapshot))
    (account / "token").write_text("none")
    shutil.copy(container.root / "etc/ssl/certs/ca-certificates.crt", account / "ca.crt")
    where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    container.start({**where, "POD_NAME": "tried", "POD_NAMESPACE": "ingressd", "INGRESSD_ZONE": ""})
    wait(lambda: answer(10254, "/healthz") == 200, "/healthz is 200", within_s=30)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        status = answer(10254, "/readyz")
        if status != 503:
            raise BrokenError(f"/readyz answers {status} without ever having read the cluster")
        time.sleep(0.1)
    say("ok   /readyz stays 503")
    expect(container.healthy(), "HEALTHCHECK succeeds")


def look(container: Container) -> None:
    """What a started container must do."""
    began_s = time.monotonic()
    container.start({})
    assert container.process is not None
    wait(lambda: answer(10254, "/readyz") == 200, "/readyz is 200", within_s=30)
    say(f"     {time.monotonic() - began_s:.1f} s after the start")
    status = Path(f"/proc/{container.first()}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    expect(facts["Uid"].split() == [container.user] * 4, f"runs as {container.user}", facts["Uid"])
    expect(facts["NSpid"].split()[-1] == "1", "is process 1", facts["NSpid"])
    powers = {name: int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    expect(not any(powers.values()), "has no capability", str(powers))
    expect(container.healthy(), "HEALTHCHECK succeeds")
    expect(answer(8080, "/") == 404, "8080 answers 404 without a route")
    expect(answer(8080, "/healthz") == 200, "8080 answers load balancers' /healthz")
    stop = container.stage.last("STOPSIGNAL")
    os.kill(container.first(), getattr(signal, stop.text if stop else "SIGTERM"))
    code = container.process.wait(15)
    expect(code == 0, "ends with 0 when it is told to", str(code))
    expect(not container.healthy(), "HEALTHCHECK fails afterwards")


def answer(port: int, path: str) -> int:
    """The status of a GET; 0 when there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status
    return 0


def expect(true: bool, what: str, otherwise: str = "") -> None:
    """Report a check, or end with it."""
    if not true:
        raise BrokenError(f"not so: {what}; {otherwise}")
    say(f"ok   {what}")


def wait(condition: Callable[[], bool], what: str, *, within_s: float) -> None:
    """Report a condition that becomes true in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise BrokenError(f"not so within {within_s:g} s: {what}")
        time.sleep(0.05)
    say(f"ok   {what}")


def main() -> int:
    """Build and start; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.inside:
            inside(options.inside)
            return 0
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise BrokenError("needs root and debootstrap (apt-get install debootstrap)")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingressd-image"
        base = base_root(cache)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            root = build(parse((ROOT / "Dockerfile").read_text()), base=base, work=Path(work))
            size = subprocess.run(["du", "-sm", str(root / "opt/ingressd")], capture_output=True, text=True, check=True)
            say(f"     /opt/ingressd takes {size.stdout.split()[0]} MiB")
            spaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
            return subprocess.run([*spaces, sys.executable, __file__, "--inside", str(root)], check=False).returncode
    except BrokenError as failure:
        print(f"try_dockerfile: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
