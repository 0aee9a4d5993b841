"""A pod whose first container is a real process, in a network, mount and process namespace of its own.

What a kubelet and a container engine would do with the shipped manifests: volumes, the service account's token, the
environment, a read-only root, the user and capabilities of the security context, probes, preStop, restarts. Not done:
seccomp, limits of CPU and memory, images; the program is this checkout's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp

from kube import addresses, namespace
from kube.addresses import Dual
from kube.api import Object
from kube.container import ContainerSpec
from kube.volumes import Volumes, environment_of
from kube.watching import Client

_interface = itertools.count()
PROBE_EVERY_S = 0.1
"""A kubelet's least is a second; tests should not wait for that."""
RESTART_AFTER_S = 0.2
_GATEWAY = ("169.254.1.1", "fe80::1")
_REPOSITORY = Path(__file__).parents[2]


class ProcessRunner:
    """One pod. `program` is what the image's entrypoint would be."""

    def __init__(self, client: Client, pod: Object, *, program: Path, folder: Path, pair: Dual) -> None:
        self.pod, self.pair = pod, pair
        self._container: Object = pod["spec"]["containers"][0]
        self._program, self._folder = program, folder
        self._volumes = Volumes(client, pod, folder / "volumes")
        self._network = folder / "network"
        self._process: subprocess.Popen[bytes] | None = None
        self._watching: list[asyncio.Task[None]] = []
        self._probes = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        self._stopping = False
        self.restarts = 0
        self.log = folder / "container.log"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> Dual:
        """Make network and volumes, start the container, restart it whenever it ends."""
        self._folder.mkdir(parents=True)
        self._make_network()
        await self._volumes.prepare()
        self._spec().write(self._folder / "container.json")
        self._start_container()
        self._watching = [asyncio.create_task(self._keep_running()), asyncio.create_task(self._keep_alive())]
        return self.pair

    async def ready(self) -> bool:
        """Ask the readiness probe."""
        return await self._probe("readinessProbe")

    async def stop(self, grace_s: float) -> None:
        """PreStop, SIGTERM, SIGKILL when the grace period is over."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                hook = (self._container.get("lifecycle") or {}).get("preStop") or {}
                await asyncio.sleep(float((hook.get("sleep") or {}).get("seconds", 0)))
                self.send_signal(signal.SIGTERM)
                while self._process is not None and self._process.poll() is None:
                    await asyncio.sleep(0.02)
        await self.close()

    async def close(self) -> None:
        """End it now, and take away what it had."""
        self._stopping = True
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._end_container()
        await self._probes.close()
        self._volumes.remove()
        subprocess.run(["umount", "--lazy", str(self._network)], check=False, capture_output=True)

    def _end_container(self) -> None:
        """SIGKILL; what else runs in its process namespace ends with it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def volume(self, name: str) -> Path:
        """The folder of a volume on this machine."""
        return self._volumes.path(name)

    async def refresh_volumes(self) -> None:
        """What a kubelet does about once a minute."""
        await self._volumes.refresh()

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the container's first process."""
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(self.first_process(), number)

    def first_process(self) -> int:
        """Its process id as we see it. IndexError when it has ended."""
        assert self._process is not None
        try:
            text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        except OSError:
            text = ""
        return int(text.split()[0])

    def crash(self) -> None:
        """SIGKILL to the container's first process, from outside: the kubelet starts the container again."""
        self.send_signal(signal.SIGKILL)

    def controller(self) -> int:
        """The process id of ingressd's controller."""
        for pid in Path(f"/proc/{self.first_process()}/task").parent.joinpath("task").iterdir():
            for child in (pid / "children").read_text().split():
                if b"\0controller\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        raise LookupError("no controller")

    def output(self) -> str:
        """Everything it printed, over restarts."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    # --- the container ------------------------------------------------------------------------------------------------

    def _start_container(self) -> None:
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
        inside = [sys.executable, "-m", "kube.container", str(self._folder / "container.json")]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ["nsenter", f"--net={self._network}", "setpriv", "--pdeathsig", "KILL", *namespaces, *inside],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(_REPOSITORY / "tests")},
                start_new_session=True,
            )

    async def _keep_running(self) -> None:
        while not self._stopping:
            await asyncio.sleep(PROBE_EVERY_S)
            if self._process is None or self._process.poll() is None:
                continue
            await asyncio.sleep(RESTART_AFTER_S)
            if not self._stopping:
                self.restarts += 1
                self._start_container()

    async def _keep_alive(self) -> None:
        """Liveness, as patient as its probe says, from the first success on."""
        probe = self._container.get("livenessProbe")
        while probe is not None and not await self._probe("livenessProbe"):
            pass
        failures = 0
        while probe is not None:
            await asyncio.sleep(probe.get("periodSeconds", 10))
            failures = 0 if await self._probe("livenessProbe") else failures + 1
            if failures >= probe.get("failureThreshold", 3) and not self._stopping:
                self._end_container()
                failures = 0

    def _spec(self) -> ContainerSpec:
        pod_level = self.pod["spec"].get("securityContext") or {}
        security = {**pod_level, **(self._container.get("securityContext") or {})}
        root = self._folder / "root"
        root.mkdir()
        host, port = addresses.API_SERVICE
        python = str(Path(sys.base_prefix).resolve())
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOSTNAME": self.pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
            **environment_of(self.pod, addresses=self.pair),
        }
        command = self._container.get("command") or [str(self._program)]
        mounts = [
            (str(self._volumes.path(one["name"])), one["mountPath"], bool(one.get("readOnly")))
            for one in self._container.get("volumeMounts", ())
        ]
        return ContainerSpec(
            root=str(root),
            command=[*command, *self._container.get("args", ())],
            environment=environment,
            mounts=mounts,
            visible=sorted({str(_REPOSITORY), sys.prefix, python, str(self._program.parent)}),
            hosts="127.0.0.1 localhost\n::1 localhost\n" + f"{self.pair[0]} {self.pod['metadata']['name']}\n",
            user=security.get("runAsUser") if namespace.may_change_user() else None,
            group=security.get("runAsGroup"),
            extra_groups=[security["fsGroup"]] if "fsGroup" in security else [],
            drop_capabilities="ALL" in ((security.get("capabilities") or {}).get("drop") or ()),
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
        )

    # --- its network --------------------------------------------------------------------------------------------------

    def _make_network(self) -> None:
        name, network = f"pod{next(_interface)}", str(self._network)
        self._network.touch()
        subprocess.run(["unshare", f"--net={network}", "true"], check=True)
        v4, v6 = self.pair
        node4, node6 = addresses.NODE
        _ip(
            f"link add {name} type veth peer name eth0 netns {network}",
            f"link set {name} up",
            f"addr add {_GATEWAY[0]}/32 dev {name} scope link",
            f"addr add {_GATEWAY[1]}/64 dev {name} nodad",
            f"route add {v4}/32 dev {name} src {node4}",
            f"-6 route add {v6}/128 dev {name} src {node6}",
        )
        _ip(
            "link set lo up",
            "link set eth0 up",
            f"addr add {v4}/32 dev eth0",
            f"addr add {v6}/128 dev eth0 nodad",
            f"route add {_GATEWAY[0]}/32 dev eth0",
            f"route add default via {_GATEWAY[0]} src {v4}",
            f"-6 route add default via {_GATEWAY[1]} dev eth0 src {v6}",
            inside=network,
        )

    # --- probes -------------------------------------------------------------------------------------------------------

    async def _probe(self, name: str) -> bool:
        probe = self._container.get(name)
        await asyncio.sleep(PROBE_EVERY_S)
        if probe is None:
            return self._process is not None and self._process.poll() is None
        get = probe["httpGet"]
        port = get["port"]
        if isinstance(port, str):
            port = next(one["containerPort"] for one in self._container["ports"] if one["name"] == port)
        try:
            async with self._probes.get(f"http://{self.pair[0]}:{port}{get.get('path', '/')}") as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def _ip(*lines: str, inside: str = "") -> None:
    enter = ["nsenter", f"--net={inside}"] if inside else []
    for line in lines:
        subprocess.run([*enter, "ip", *line.split()], check=True)
