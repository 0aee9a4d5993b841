"""The whole: a control plane and the stand-ins around it, started and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from stage.running import PROGRAM

from kube import addresses, namespace
from kube.api import SERVICE_ACCOUNTS, Api, Object
from kube.control_plane import SERVER, ControlPlane
from kube.kubelet import Kubelet
from kube.pki import kubeconfig
from kube.process_pod import ProcessRunner
from kube.services import ServiceAddresses
from kube.watching import Client

T = TypeVar("T")


class Cluster:
    """A cluster in a folder of its own. Only one can run in a network namespace.

    `images` says which images are programs of this machine, by the last part of the image's name; pods of every other
    image are echo servers of ours. `ingressd` is this checkout's unless said otherwise.
    """

    def __init__(self, folder: Path, *, images: Mapping[str, Path] | None = None) -> None:
        if not namespace.is_inside():
            raise namespace.NoNamespaceError("not in a network namespace of its own: use `make test-kube`")
        self.folder = folder
        self._images = {"ingressd": PROGRAM, **(images or {})}
        self.control_plane = ControlPlane(folder)
        self.api: Api = self.control_plane.admin
        self.admin_kubeconfig = self.control_plane.admin_kubeconfig
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-ins", daemon=True)
        self._thread.start()
        self._client: Client | None = None
        self._process_pods = addresses.process_pods()
        self._running: list[asyncio.Task[None]] = []
        self.kubelet: Kubelet

    def start(self) -> None:
        """Start everything; returns when a pod could be created."""
        self.control_plane.start()
        self.do(self._start_stand_ins())
        self.api.wait(lambda: self.api.find(SERVICE_ACCOUNTS, "default", "default"), "the default service account")

    async def _start_stand_ins(self) -> None:
        self._client = Client(self.api)
        self.kubelet = Kubelet(self._client)
        self.kubelet.runners = {name: partial(self._process_pod, program) for name, program in self._images.items()}
        await self.kubelet.register_nodes()
        services = ServiceAddresses(self._client)
        self._running = [
            asyncio.create_task(self.kubelet.run(), name="kubelet"),
            asyncio.create_task(services.run(), name="services"),
        ]

    def _process_pod(self, program: Path, pod: Object) -> ProcessRunner:
        assert self._client is not None
        folder = self.folder / "pods" / f"{pod['metadata']['namespace']}_{pod['metadata']['name']}"
        pair = self._process_pods.take()
        return ProcessRunner(self._client, pod, program=program, folder=folder, pair=pair)

    def stop(self) -> None:
        """End everything. Raises what ended a stand-in before its time."""
        failures: list[Any] = []
        with contextlib.suppress(TimeoutError):
            failures = self.do(self._stop_stand_ins())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self.control_plane.stop()
        for failure in failures:
            raise failure

    async def _stop_stand_ins(self) -> list[BaseException]:
        for task in self._running:
            task.cancel()
        ended = await asyncio.gather(*self._running, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        return [one for one in ended if isinstance(one, Exception)]

    def do(self, coroutine: Coroutine[Any, Any, T], *, within_s: float = 30.0) -> T:
        """Run a coroutine where the stand-ins live, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(within_s)

    # --- identities ---------------------------------------------------------------------------------------------------

    def token(self, namespace: str, account: str, *, for_s: int = 3600) -> str:
        """A service account's token, by TokenRequest."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": for_s}}
        answer = self.api.request("POST", path, body=body)
        return str(answer["status"]["token"])

    def kubeconfig_of(self, namespace: str, account: str) -> Path:
        """A kubeconfig with a service account's token."""
        path = self.folder / f"{namespace}-{account}.kubeconfig"
        path.touch(0o600)
        path.write_text(kubeconfig(SERVER, self.control_plane.authority.pem, token=self.token(namespace, account)))
        return path

    def logs(self) -> str:
        """The ends of the control plane's logs, for the report of a failed test."""
        plane = self.control_plane
        programs = (plane.etcd, plane.api_server, plane.controllers)
        return "\n".join(f"--- {program.name}\n{program.tail(15)}" for program in programs)
