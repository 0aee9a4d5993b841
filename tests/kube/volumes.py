"""A pod's volumes as a kubelet lays them out, and its environment."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from kube import namespace
from kube.api import CONFIG_MAPS, SECRETS, Object, path_of
from kube.watching import AGAIN_IN_S, Client, GoneError


class Volumes:
    """The volumes of one pod, below a folder. Files are swapped in by a symlink, `..data`, all at once."""

    def __init__(self, client: Client, pod: Object, folder: Path) -> None:
        self._client, self._pod, self._folder = client, pod, folder
        self._mounted: list[Path] = []
        context = pod["spec"].get("securityContext") or {}
        self._group: int | None = context.get("fsGroup") if namespace.may_change_user() else None

    @property
    def _namespace(self) -> str:
        return str(self._pod["metadata"]["namespace"])

    def path(self, name: str) -> Path:
        """The folder of a volume."""
        return self._folder / name

    async def prepare(self) -> None:
        """Make all of them."""
        for volume in self._pod["spec"].get("volumes", ()):
            path = self.path(volume["name"])
            path.mkdir(parents=True)
            if "emptyDir" in volume:
                self._make_empty(path, volume["emptyDir"] or {})
        await self.refresh()

    async def refresh(self) -> None:
        """Bring files up to date: changed ConfigMaps and Secrets, a new token."""
        for volume in self._pod["spec"].get("volumes", ()):
            if "emptyDir" not in volume:
                _swap(self.path(volume["name"]), await self._content(volume), group=self._group)

    def remove(self) -> None:
        """Take everything away."""
        for path in self._mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_empty(self, path: Path, source: Object) -> None:
        if source.get("medium") == "Memory":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], check=True)
            self._mounted.append(path)
        if self._group is not None:
            os.chown(path, 0, self._group)
        path.chmod(0o2777)

    # --- files --------------------------------------------------------------------------------------------------------

    async def _content(self, volume: Object) -> dict[str, bytes]:
        if "projected" in volume:
            files: dict[str, bytes] = {}
            for source in volume["projected"]["sources"]:
                files |= await self._source(source)
            return files
        return await self._source(volume)

    async def _source(self, source: Object) -> dict[str, bytes]:
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            return {wanted["path"]: await self._token(wanted)}
        if "downwardAPI" in source:
            return {
                one["path"]: field_of(self._pod, one["fieldRef"]).encode() for one in source["downwardAPI"]["items"]
            }
        if "configMap" in source:
            return await self._keys(CONFIG_MAPS, source["configMap"]["name"], source["configMap"])
        if "secret" in source:
            name = source["secret"].get("secretName") or source["secret"]["name"]
            return await self._keys(SECRETS, name, source["secret"])
        raise NotImplementedError(f"no such volume here: {sorted(source)}")

    async def _keys(self, resource: str, name: str, source: Object) -> dict[str, bytes]:
        while True:
            try:
                found = await self._client.insist("GET", path_of(resource, self._namespace, name))
                break
            except GoneError:
                if source.get("optional"):
                    return {}
                await asyncio.sleep(AGAIN_IN_S)  # As a kubelet does: the pod waits until it is there.
        content = {key: value.encode() for key, value in found.get("data", {}).items()}
        if resource == SECRETS:
            content = {key: base64.b64decode(value) for key, value in content.items()}
        content |= {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}
        items = source.get("items")
        return {one["path"]: content[one["key"]] for one in items} if items else content

    async def _token(self, wanted: Object) -> bytes:
        account = self._pod["spec"]["serviceAccountName"]
        metadata = self._pod["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"expirationSeconds": wanted.get("expirationSeconds", 3600), "boundObjectRef": bound}
        if wanted.get("audience"):
            spec["audiences"] = [wanted["audience"]]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
        return str((await self._client.insist("POST", path, body))["status"]["token"]).encode()


def _swap(folder: Path, files: dict[str, bytes], *, group: int | None) -> None:
    """The atomic writer of a kubelet: a new folder, one rename of `..data`, links from the names to it."""
    data = folder / "..data"
    old = data.resolve() if data.is_symlink() else None
    fresh = folder / f"..{time.time_ns()}"
    fresh.mkdir()
    for name, content in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644 if group is None else 0o640)
        if group is not None:
            os.chown(path, 0, group)
    pending = folder / "..data_tmp"
    pending.symlink_to(fresh.name)
    pending.replace(data)
    for name in {name.split("/")[0] for name in files}:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and not entry.exists():
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def field_of(pod: Object, reference: Object, *, addresses: tuple[str, str] = ("", "")) -> str:
    """The value of a fieldRef."""
    path: str = reference["fieldPath"]
    special = {"status.podIP": addresses[0], "status.podIPs": ",".join(addresses)}
    if path in special:
        return special[path]
    if path.endswith("']"):
        path, _, key = path[:-2].partition("['")
        return str(_walk(pod, path).get(key, ""))
    return str(_walk(pod, path))


def _walk(pod: Object, path: str) -> Any:
    found: Any = pod
    for part in path.split("."):
        found = found.get(part) or {}
    return found


def environment_of(pod: Object, *, addresses: tuple[str, str]) -> dict[str, str]:
    """The environment of the first container."""
    environment = {}
    for one in pod["spec"]["containers"][0].get("env", ()):
        source = one.get("valueFrom")
        if source is None:
            environment[one["name"]] = one.get("value", "")
        else:
            environment[one["name"]] = field_of(pod, source["fieldRef"], addresses=addresses)
    return environment
