"""A stand-in for scheduler and kubelets: binds pods, runs them, reports them, finishes their deletion.

A pod whose image has a runner (`Kubelet.runners`, by the last part of the image's name) is started by it; every other
pod is an echo server (`echo.Echo`) on an address of its own. Annotations say how a pod behaves:

- `stage/on-term`: `exit` (the default) ends at once on SIGTERM; `serve SECONDS` goes on serving that long, as a preStop
  hook would have it, at most until the grace period is over.
- `stage/ready-after`: seconds until it reports Ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import Callable
from typing import Any, Protocol

from kube import addresses
from kube.addresses import Dual
from kube.api import NODES, PODS, Object, path_of
from kube.echo import Echo
from kube.watching import Client, GoneError

ON_TERM, READY_AFTER = "stage/on-term", "stage/ready-after"
NODE_COUNT = 2


class Runner(Protocol):
    """What runs in a pod."""

    async def start(self) -> Dual:
        """Start it; the pod's addresses."""

    async def ready(self) -> bool:
        """Would its readiness probe succeed? Asked again and again."""

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL when the grace period is over; returns when it ended."""

    async def close(self) -> None:
        """End it now; also when it has ended."""


class EchoRunner:
    """An echo server as a pod."""

    def __init__(self, pod: Object, pair: Dual) -> None:
        self._annotations: dict[str, str] = pod["metadata"].get("annotations", {})
        self._pair = pair
        self.echo = Echo(pod)
        self.unready = False

    async def start(self) -> Dual:
        """Listen."""
        await self.echo.start(self._pair)
        await asyncio.sleep(float(self._annotations.get(READY_AFTER, "0")))
        return self._pair

    async def ready(self) -> bool:
        """Unless a test says otherwise."""
        return not self.unready

    async def stop(self, grace_s: float) -> None:
        """As `stage/on-term` says."""
        how, _, seconds = self._annotations.get(ON_TERM, "exit").partition(" ")
        if how == "serve":
            await asyncio.sleep(min(float(seconds), grace_s))
        self.echo.exit()

    async def close(self) -> None:
        """Close everything."""
        self.echo.exit()


class _Pod:
    """One pod from binding to deletion."""

    def __init__(self, manifest: Object) -> None:
        self.manifest = manifest
        self.runner: Runner | None = None
        self.addresses: Dual | None = None
        self.restarts = 0
        self.deleted = asyncio.Event()
        self.ending = False
        """It cleans up after itself: nobody may interrupt."""
        self.task: asyncio.Task[None] | None = None
        self.poke = asyncio.Event()
        """Set when readiness may have changed."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.manifest["metadata"]["namespace"], self.manifest["metadata"]["name"]


class Kubelet:
    """Every node's kubelet, and the scheduler. Lives on one event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pods: dict[str, _Pod] = {}
        self._echo_pairs = addresses.local_pods()
        self._nodes: list[tuple[str, Dual]] = []
        self._turn: itertools.cycle[str] = itertools.cycle(())
        self.runners: dict[str, Callable[[Object], Runner]] = {}
        self._echoes: list[Echo] = []
        """Of every pod there was, for what they saw."""
        self._ended: set[str] = set()
        """UIDs of pods that ended and that the watch has not called gone yet: it may still tell older news of them."""

    # --- nodes --------------------------------------------------------------------------------------------------------

    async def register_nodes(self) -> None:
        """Make the nodes, with internal and external addresses of both families, Ready and free of taints."""
        pairs = addresses.nodes()
        pairs.take()  # The API server's.
        for number in range(1, NODE_COUNT + 1):
            name = f"node-{number}"
            inside, outside = pairs.take(), pairs.take()
            self._nodes.append((name, inside))
            labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number}"}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
            with contextlib.suppress(GoneError):
                await self._client.insist("POST", path_of(NODES), node)
            await self._client.insist(
                "PATCH", path_of(NODES, name=name), {"spec": {"taints": None, "podCIDR": None}}, merge=True
            )
            known = [{"type": "InternalIP", "address": one} for one in inside]
            known += [{"type": "ExternalIP", "address": one} for one in outside]
            status = {
                "addresses": [*known, {"type": "Hostname", "address": name}],
                "conditions": [_condition("Ready", True)],
                "capacity": {"cpu": "64", "memory": "256Gi", "pods": "10000"},
                "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "10000"},
            }
            path = path_of(NODES, name=name, sub="status")
            await self._client.insist("PATCH", path, {"status": status}, merge=True)
        self._turn = itertools.cycle([name for name, _ in self._nodes])

    # --- pods ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch pods until cancelled; then everything that runs in them is killed."""
        try:
            await self._client.watch(PODS, self._on_pod)
        finally:
            tasks = [pod.task for pod in list(self._pods.values()) if pod.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_pod(self, manifest: Object, present: bool) -> None:
        uid = manifest["metadata"]["uid"]
        pod = self._pods.get(uid)
        if not present:
            self._ended.discard(uid)
            if pod is not None and pod.task is not None and not pod.ending:
                pod.task.cancel()
            return
        if uid in self._ended:
            return
        if pod is None:
            pod = self._pods[uid] = _Pod(manifest)
            pod.task = asyncio.create_task(self._live(pod), name=f"pod {'/'.join(pod.key)}")
        pod.manifest = manifest
        if manifest["metadata"].get("deletionTimestamp"):
            pod.deleted.set()

    async def _live(self, pod: _Pod) -> None:
        try:
            await self._bind(pod)
            pod.runner = self._runner_for(pod.manifest)
            starting = asyncio.create_task(self._run(pod))
            try:
                await pod.deleted.wait()
            finally:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
            await pod.runner.stop(float(pod.manifest["metadata"].get("deletionGracePeriodSeconds") or 0))
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.manifest["metadata"]["uid"]}}
            await self._client.insist("DELETE", path_of(PODS, *pod.key), options)
        except GoneError:
            pass
        finally:
            pod.ending = True
            if pod.runner is not None:
                await pod.runner.close()
            uid = pod.manifest["metadata"]["uid"]
            self._ended.add(uid)
            self._pods.pop(uid, None)

    async def _bind(self, pod: _Pod) -> None:
        if pod.manifest["spec"].get("nodeName"):
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": next(self._turn)}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.key[1], "namespace": pod.key[0]},
            "target": target,
        }
        with contextlib.suppress(GoneError):  # Bound by a request whose answer was lost; or gone, as is seen below.
            await self._client.insist("POST", path_of(PODS, *pod.key, sub="binding"), binding)
        # Read again: binding copies the node's topology labels to the pod (KEP-4742).
        pod.manifest = await self._client.insist("GET", path_of(PODS, *pod.key))

    def _runner_for(self, manifest: Object) -> Runner:
        image = manifest["spec"]["containers"][0]["image"].rpartition("/")[2].partition("@")[0].partition(":")[0]
        make = self.runners.get(image)
        if make:
            return make(manifest)
        runner = EchoRunner(manifest, self._echo_pairs.take())
        self._echoes.append(runner.echo)
        return runner

    async def _run(self, pod: _Pod) -> None:
        assert pod.runner is not None
        pod.addresses = await pod.runner.start()
        reported: bool | None = None
        while True:
            pod.poke.clear()  # Before it is asked: what changes while we report is asked again.
            ready = await pod.runner.ready()
            if ready != reported:
                reported = ready
                await self._report(pod, ready=ready)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60 if isinstance(pod.runner, EchoRunner) else 0.1):
                    await pod.poke.wait()

    async def _report(self, pod: _Pod, *, ready: bool) -> None:
        assert pod.addresses is not None
        node = pod.manifest["spec"]["nodeName"]
        hosts = next((pair for name, pair in self._nodes if name == node), self._nodes[0][1])
        now = _now()
        status = {
            "phase": "Running",
            "podIP": pod.addresses[0],
            "podIPs": [{"ip": one} for one in pod.addresses],
            "hostIP": hosts[0],
            "hostIPs": [{"ip": one} for one in hosts],
            "startTime": pod.manifest["metadata"]["creationTimestamp"],
            "conditions": [
                _condition("PodScheduled", True),
                _condition("Initialized", True),
                _condition("ContainersReady", ready),
                _condition("Ready", ready),
            ],
            "containerStatuses": [
                {
                    "name": one["name"],
                    "image": one["image"],
                    "imageID": "",
                    "ready": ready,
                    "started": True,
                    "restartCount": pod.restarts,
                    "state": {"running": {"startedAt": now}},
                }
                for one in pod.manifest["spec"]["containers"]
            ],
        }
        await self._client.insist("PATCH", path_of(PODS, *pod.key, sub="status"), {"status": status}, merge=True)

    # --- what tests ask for -------------------------------------------------------------------------------------------

    def _named(self, namespace: str, name: str) -> _Pod:
        return next(pod for pod in list(self._pods.values()) if pod.key == (namespace, name))

    def runner(self, namespace: str, name: str) -> Any:
        """What runs in a pod."""
        return self._named(namespace, name).runner

    def running(self, namespace: str) -> list[Any]:
        """What runs in the pods of a namespace."""
        return [pod.runner for pod in list(self._pods.values()) if pod.runner is not None and pod.key[0] == namespace]

    def echoes(self, namespace: str) -> list[Echo]:
        """Every echo that runs or ran in a namespace."""
        return [one for one in list(self._echoes) if one.namespace == namespace]

    async def set_ready(self, namespace: str, name: str, *, ready: bool) -> None:
        """Let an echo's readiness probe succeed or fail; it serves on in either case."""
        pod = self._named(namespace, name)
        assert isinstance(pod.runner, EchoRunner)
        pod.runner.unready = not ready
        pod.poke.set()

    async def crash(self, namespace: str, name: str) -> None:
        """End an echo as a crash does: connections first, and the kubelet notices."""
        pod = self._named(namespace, name)
        assert isinstance(pod.runner, EchoRunner)
        await pod.runner.close()
        await self.set_ready(namespace, name, ready=False)

    async def restart(self, namespace: str, name: str) -> None:
        """Start a crashed echo again, at its old address."""
        pod = self._named(namespace, name)
        assert isinstance(pod.runner, EchoRunner)
        pod.restarts += 1
        await pod.runner.start()
        await self.set_ready(namespace, name, ready=True)


def _condition(kind: str, true: bool) -> Object:
    now = _now()
    return {"type": kind, "status": str(true), "lastTransitionTime": now, "lastProbeTime": None}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
