"""`python -m kube`, with `tests` on PYTHONPATH: the test cluster by hand.

    python -m kube up [options]              keep a cluster running, say how to reach it
    python -m kube run [options] -- CMD...   run a command beside a cluster, with KUBECONFIG set
    python -m kube inside -- CMD...          run a command in the namespace, without a cluster

    --for SECONDS         how long at most; an hour unless said
    --image NAME=PROGRAM  run this program in pods of this image; others are echo servers, `ingressd` is this checkout

A cluster ends with the command, with its time, or with this process, however that ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from kube import build, namespace
from kube.cluster import Cluster


def main(arguments: list[str]) -> int:
    """Run one of the commands; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m kube", description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("up", "run", "inside"))
    parser.add_argument("--for", dest="for_s", type=float, default=3600.0, metavar="SECONDS")
    parser.add_argument("--image", dest="images", action="append", default=[], metavar="NAME=PROGRAM")
    end = arguments.index("--") if "--" in arguments else len(arguments)
    asked = parser.parse_args(arguments[:end])
    command = arguments[end + 1 :]
    if (asked.command == "up") == bool(command):
        parser.error("`run` and `inside` need a command behind --, `up` takes none")
    try:
        if asked.command == "inside":
            return _inside(command)
        if not namespace.is_inside():
            for module in ("kubernetes", "etcd"):
                build.build(module)
            namespace.enter([sys.executable, "-m", "kube", *arguments])
        pairs = (one.partition("=") for one in asked.images)
        return _with_cluster(command, for_s=asked.for_s, images={name: Path(path) for name, _, path in pairs})
    except (build.CannotBuildError, namespace.NoNamespaceError) as error:
        print(f"tests/kube: {error}", file=sys.stderr)
        return 1


def _inside(command: list[str]) -> int:
    if os.environ.get(namespace.NEW) != "1":
        namespace.enter(command)
    namespace.arrange()
    os.execvp(command[0], command)


def _with_cluster(command: list[str], *, for_s: float, images: dict[str, Path]) -> int:
    with tempfile.TemporaryDirectory(prefix="kube-") as folder:
        cluster = Cluster(Path(folder), images=images)
        try:
            cluster.start()
            if command:
                return _beside(cluster, command, for_s=for_s)
            print(f"export KUBECONFIG={cluster.admin_kubeconfig}")
            print(f"kubectl is {build.binary('kubectl')}")
            user = "" if namespace.may_change_user() else " --user --preserve-credentials"
            print(f"enter with: nsenter --target {os.getpid()}{user} --net --mount --wd")
            print(f"ends in {for_s:g} s, or with Ctrl-C", flush=True)
            ended = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: ended.set())
            signal.signal(signal.SIGINT, lambda *_: ended.set())
            ended.wait(for_s)
            return 0
        finally:
            cluster.stop()


def _beside(cluster: Cluster, command: list[str], *, for_s: float) -> int:
    path = f"{build.folder('kubernetes')}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, "KUBECONFIG": str(cluster.admin_kubeconfig), "PATH": path}
    try:
        return subprocess.run(command, env=environment, timeout=for_s, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"tests/kube: not done within {for_s:g} s", file=sys.stderr)
        return 124


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
