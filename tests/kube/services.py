"""A stand-in for kube-proxy and a cloud's load balancers.

Every TCP port of a Service's cluster IPs accepts connections and hands each to a ready endpoint, in turn. A Service of
type LoadBalancer is given addresses, which its status names, and which do the same. Connections are relayed, so an
endpoint sees the relay's address, not the client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Any

from kube import addresses
from kube.api import SERVICES, SLICES, Object, path_of
from kube.watching import Client, GoneError

Key = tuple[str, str]
_COPY_BYTES = 65536


@dataclass
class _Service:
    """What we do for one Service."""

    manifest: Object
    load_balancer: addresses.Dual | None = None
    servers: dict[tuple[str, int], asyncio.Server] = field(default_factory=dict)


class ServiceAddresses:
    """Virtual addresses of all Services. Lives on one event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._services: dict[Key, _Service] = {}
        self._slices: dict[Key, dict[str, Object]] = {}
        self._balancers = addresses.load_balancers()
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._todo: asyncio.Queue[Key] = asyncio.Queue()

    async def run(self) -> None:
        """Watch Services and EndpointSlices until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._client.watch(SERVICES, self._on_service))
                group.create_task(self._client.watch(SLICES, self._on_slice))
                group.create_task(self._arrange())
        finally:
            for service in self._services.values():
                for server in service.servers.values():
                    server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what there is ------------------------------------------------------------------------------------------------

    def _on_service(self, manifest: Object, present: bool) -> None:
        key = _key(manifest)
        if not present:
            gone = self._services.pop(key, None)
            for server in gone.servers.values() if gone else ():
                server.close()
            return
        self._services.setdefault(key, _Service(manifest)).manifest = manifest
        self._todo.put_nowait(key)

    def _on_slice(self, manifest: Object, present: bool) -> None:
        labels = manifest["metadata"].get("labels", {})
        key = manifest["metadata"]["namespace"], labels.get("kubernetes.io/service-name", "")
        slices = self._slices.setdefault(key, {})
        if present:
            slices[manifest["metadata"]["name"]] = manifest
        else:
            slices.pop(manifest["metadata"]["name"], None)

    # --- addresses ----------------------------------------------------------------------------------------------------

    async def _arrange(self) -> None:
        while True:
            key = await self._todo.get()
            service = self._services.get(key)
            if service is not None:
                with contextlib.suppress(GoneError):
                    await self._arrange_one(key, service)

    async def _arrange_one(self, key: Key, service: _Service) -> None:
        spec = service.manifest["spec"]
        virtual = [one for one in spec.get("clusterIPs", ()) if one != "None"]
        balanced = spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")
        if balanced:
            service.load_balancer = service.load_balancer or self._balancers.take()
            by_family = dict(zip(("IPv4", "IPv6"), service.load_balancer, strict=True))
            given = [by_family[family] for family in spec["ipFamilies"]]
            virtual += given
            wanted = [{"ip": one, "ipMode": "VIP"} for one in given]
        else:
            wanted = []
        ports = {one["port"]: one for one in spec.get("ports", ()) if one.get("protocol", "TCP") == "TCP"}
        keep = {(host, port) for host in virtual for port in ports}
        for place in service.servers.keys() - keep:
            service.servers.pop(place).close()
        for host, port in sorted(keep - service.servers.keys()):
            service.servers[host, port] = await asyncio.start_server(self._relay_for(key, port), host, port)
        if self._services.get(key) is not service:  # Deleted meanwhile: its addresses may be another's by now.
            for server in service.servers.values():
                server.close()
            return
        # Said when somebody listens there.
        if (service.manifest.get("status", {}).get("loadBalancer", {}).get("ingress") or []) != wanted:
            change = {"status": {"loadBalancer": {"ingress": wanted or None}}}
            await self._client.insist("PATCH", path_of(SERVICES, *key, sub="status"), change, merge=True)

    # --- connections --------------------------------------------------------------------------------------------------

    def _relay_for(self, key: Key, port: int) -> Any:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._relay(key, port, reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # Cancelled only at the end; asyncio's streams complain about a task that says so.
            finally:
                self._tasks.discard(task)
                writer.transport.abort()

        return relay

    async def _relay(self, key: Key, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets = self._endpoints(key, port)
        if not targets:
            return
        host, number = targets[next(self._turn) % len(targets)]
        far_reader, far_writer = await asyncio.open_connection(host, number)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far_writer))
                group.create_task(_copy(far_reader, writer))
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()

    def _endpoints(self, key: Key, port: int) -> list[tuple[str, int]]:
        service = self._services.get(key)
        if service is None:
            return []
        name = next((one.get("name", "") for one in service.manifest["spec"]["ports"] if one["port"] == port), None)
        found = []
        for part in self._slices.get(key, {}).values():
            number = next((one["port"] for one in part.get("ports") or () if one.get("name", "") == name), None)
            if number is None or part["addressType"] == "FQDN":
                continue
            for endpoint in part.get("endpoints") or ():
                if endpoint.get("conditions", {}).get("ready", True):
                    found += [(address, number) for address in endpoint["addresses"]]
        return found


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_COPY_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _key(manifest: Object) -> Key:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
