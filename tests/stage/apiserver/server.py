"""`FakeApiServer`: a thread, a loop, sockets, and the calls of tests from other threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from stage.apiserver.answers import ApiFailureError
from stage.apiserver.api import Api
from stage.apiserver.faults import Answer, BlackHole, Fault, Faults, Refuse, Strike
from stage.apiserver.resources import Catalogue, Resource
from stage.apiserver.storage import Stored
from stage.apiserver.watching import Sent, Watch
from stage.apiserver.wire import HEAD_LIMIT, Request, Wire, read_request
from stage.certificates import authority, issued
from stage.ports import free_port

T = TypeVar("T")
CALL_TIMEOUT_S: Final = 60


class FakeApiServer:
    """See the package's docstring. `bookmark_s` is the time between bookmarks of a watch; `token` is the bearer token
    that every request must carry ("" for none), which may be changed while it runs."""

    def __init__(
        self, *, tls: bool = False, token: str = "", bookmark_s: float = 60.0, resources: tuple[Resource, ...] = ()
    ) -> None:
        self.token = token
        self.tls = tls
        self.host, self.port = "127.0.0.1", free_port()
        self.requests: list[Request] = []
        self.sent: list[Sent] = []
        self._left_at: dict[str, float] = {}
        self._bookmark_s = bookmark_s
        self._catalogue = Catalogue(resources)
        self._api = Api(self._catalogue, self._note_sent)
        self._faults = Faults()
        self._wires: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._tls_context = _server_tls() if tls else None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake api server", daemon=True)
        self._thread.start()
        self._await(self._listen())

    # ------------------------------------------------------------------ life
    def __enter__(self) -> FakeApiServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        if self._loop.is_closed():
            return
        self._await(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        """As in a kubeconfig."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def authority(self) -> bytes:
        """PEM of the authority that signed the server's certificate."""
        return authority("fake api server").cert

    def write_kubeconfig(self, folder: Path, *, token_file: bool = False) -> Path:
        """A kubeconfig for this server in `folder`; with `token_file` the token is in a file beside it, `token`."""
        cluster: dict[str, Any] = {"server": self.url}
        if self.tls:
            (folder / "api-ca.crt").write_bytes(self.authority)
            cluster["certificate-authority"] = str(folder / "api-ca.crt")
        user: dict[str, Any] = {"token": self.token} if self.token else {}
        if token_file:
            (folder / "token").write_text(self.token)
            user = {"tokenFile": str(folder / "token")}
        path = folder / "kubeconfig.yaml"
        context = {"cluster": "fake", "user": "test"}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "fake", "cluster": cluster}],
                    "users": [{"name": "test", "user": user}],
                    "contexts": [{"name": "fake", "context": context}],
                    "current-context": "fake",
                }
            )
        )
        return path

    # ------------------------------------------------------------------ objects
    def load(self, objects: Iterable[dict[str, Any]]) -> None:
        """Put objects in as if they had been there for long: without events. For 10,000s, before clients come."""
        by_resource: dict[Resource, list[dict[str, Any]]] = {}
        for value in objects:
            by_resource.setdefault(self._catalogue.of_object(value), []).append(value)
        for resource, values in by_resource.items():
            self._call(lambda resource=resource, values=values: self._api.storage.load(resource, values))

    def apply(self, value: dict[str, Any]) -> dict[str, Any]:
        """Create an object or replace it (its status too, where it has one); what became of it. Watches hear it now."""
        resource = self._catalogue.of_object(value)
        return self._call(lambda: self._apply(resource, value))

    def apply_all(self, values: Sequence[dict[str, Any]]) -> None:
        """`apply` for many, in one go."""
        self._call(lambda: [self._apply(self._catalogue.of_object(value), value) for value in values])

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Take an object away; `namespace` "" of a cluster-scoped one. `kind` may be "apiVersion/Kind"."""
        resource = self._catalogue.of_kind(kind)
        self._call(lambda: self._api.storage.delete(resource, (namespace, name)))

    def object(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """An object as it is now, or None."""
        resource = self._catalogue.of_kind(kind)
        found = self._call(lambda: self._api.storage.collection(resource).objects.get((namespace, name)))
        return None if found is None else _as_object(resource, found)

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, by namespace and name."""
        resource = self._catalogue.of_kind(kind)
        found = self._call(lambda: self._api.storage.collection(resource).in_order())
        return [_as_object(resource, one) for one in found]

    def _apply(self, resource: Resource, value: dict[str, Any]) -> dict[str, Any]:
        storage = self._api.storage
        metadata = {"namespace": "default", **value["metadata"]} if resource.namespaced else dict(value["metadata"])
        metadata.pop("resourceVersion", None)
        value = {**value, "metadata": metadata}
        name = metadata.get("namespace", ""), metadata["name"]
        before = storage.collection(resource).objects.get(name)
        if before is None:
            return _as_object(resource, storage.create(resource, value))
        if resource.plural == "leases":
            metadata["resourceVersion"] = str(before.version)
        stored = storage.replace(resource, value, status=False)
        if resource.status and "status" in value:
            stored = storage.replace(resource, value, status=True)
        return _as_object(resource, stored)

    # ------------------------------------------------------------------ versions and watches
    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._call(lambda: self._api.storage.version)

    def compact(self, *, gone_as: str = "event") -> None:
        """Older versions and lists begun before are gone. `gone_as` says how a watch from one of them ends:
        "event" (ERROR, as the watch cache does) or "status" (HTTP 410)."""

        def compact() -> None:
            self._api.gone_as = gone_as
            self._api.compact()

        self._call(compact)

    def end_watches(self, prefix: str = "/") -> int:
        """End running watches in good order, as the server does after their time; how many."""
        return self._call(lambda: self._end_watches(lambda watch: watch.path.startswith(prefix), reset=False))

    def bookmark(self) -> None:
        """Send every watch that wants them a bookmark now."""
        self._call(self._bookmark)

    def watching(self, prefix: str = "/") -> list[str]:
        """The paths of running watches."""
        return self._call(lambda: sorted(w.path for w in self._api.watches if w.path.startswith(prefix)))

    def left_at(self, resource_version: str) -> float:
        """time.monotonic() when the first watch event of this version left; KeyError when none has."""
        return self._left_at[resource_version]

    def _note_sent(self, sent: Sent) -> None:
        self.sent.append(sent)
        self._left_at.setdefault(sent.resource_version, sent.at)

    def _bookmark(self) -> None:
        for watch in self._api.watches:
            watch.bookmark(self._api.storage.version)

    def _end_watches(self, which: Callable[[Watch], bool], *, reset: bool) -> int:
        found = [watch for watch in self._api.watches if which(watch)]
        for watch in found:
            watch.end(reset=reset)
        return len(found)

    # ------------------------------------------------------------------ faults
    @contextlib.contextmanager
    def fault(
        self, fault: Fault, prefix: str = "/", *, verbs: Iterable[str] = (), times: int | None = None
    ) -> Iterator[None]:
        """A fault while the block runs."""
        strike = self.start_fault(fault, prefix, verbs=verbs, times=times)
        try:
            yield
        finally:
            self.end_fault(strike)

    def start_fault(
        self, fault: Fault, prefix: str = "/", *, verbs: Iterable[str] = (), times: int | None = None
    ) -> Strike:
        """Switch a fault on for paths that begin so and for these verbs (get, list, watch, create, update, patch,
        delete; none means all), for so many requests (or events of watches)."""
        strike = Strike(fault, prefix, frozenset(verbs), times)
        self._await(self._start_fault(strike))
        return strike

    def end_fault(self, strike: Strike) -> None:
        """Switch it off. Connections that a black hole took stay as they are."""
        self._await(self._end_fault(strike))

    async def _start_fault(self, strike: Strike) -> None:
        self._faults.active.append(strike)
        touched = [watch for watch in self._api.watches if strike.hits(watch.path, "watch")]
        if isinstance(strike.fault, BlackHole):
            for watch in touched:
                watch.silent = True
        elif isinstance(strike.fault, (Refuse, Answer)):
            self._end_watches(lambda watch: watch in touched, reset=True)
        if self._faults.refusing_all() and self._server is not None:
            self._server.close()
            self._server = None
            for wire in list(self._wires):
                wire.reset()

    async def _end_fault(self, strike: Strike) -> None:
        self._faults.active.remove(strike)
        if self._server is None and not self._faults.refusing_all():
            await self._listen()

    # ------------------------------------------------------------------ connections
    async def _listen(self) -> None:
        # Named, because asyncio switches Nagle off only where the protocol is: answers would come 40 ms late.
        sock = socket.socket(proto=socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self.port))
        self._server = await asyncio.start_server(
            self._serve, sock=sock, ssl=self._tls_context, limit=HEAD_LIMIT, backlog=512
        )

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for wire in list(self._wires):
            wire.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        wire = Wire(writer)
        self._tasks.add(task)
        self._wires.add(wire)
        try:
            with contextlib.suppress(ConnectionError, OSError, ValueError, asyncio.IncompleteReadError):
                while (request := await read_request(reader, time.monotonic)) is not None:
                    request.verb = self._api.verb(request)
                    self.requests.append(request)
                    if not await self._exchange(request, reader, wire) or not request.keep_alive:
                        break
        finally:
            self._wires.discard(wire)
            self._tasks.discard(task)
            with contextlib.suppress(asyncio.CancelledError):
                await wire.close()

    async def _exchange(self, request: Request, reader: asyncio.StreamReader, wire: Wire) -> bool:
        """One request; False when the connection ends with it."""
        fault = self._faults.take(request.path, request.verb)
        if isinstance(fault, Refuse):
            wire.reset()
            return False
        if isinstance(fault, BlackHole):
            await reader.read()  # Until the client gives up.
            return False
        try:
            if isinstance(fault, Answer):
                raise ApiFailureError(fault.code, fault.message, retry_after_s=fault.retry_after_s)
            if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
                raise ApiFailureError(401, "Unauthorized")
            if request.verb == "watch":
                return await self._watch(request, reader, wire)
            code, body = self._api.answer(request)
            await wire.answer(request, code, body, fault=fault)
        except ApiFailureError as failure:
            extra = f"Retry-After: {failure.retry_after_s}\r\n" if failure.retry_after_s else ""
            await wire.answer(request, failure.code, msgspec.json.encode(failure.status), fault=None, extra=extra)
        return True

    async def _watch(self, request: Request, reader: asyncio.StreamReader, wire: Wire) -> bool:
        early: list[bytes] = []
        watch: Watch | None = None

        def send(line: bytes) -> bool:
            if watch is None:
                early.append(line)
                return True
            if watch.silent:
                return False
            left = wire.chunk(line, fault=self._faults.take(request.path, "watch"))
            if not left:
                watch.end(reset=True)
            return left

        watch = self._api.watch(request, send)
        wire.begin_stream(request)
        for line in early:
            send(line)
        after_s = float(request.query.get("timeoutSeconds") or 3600)
        timers = [self._loop.call_later(after_s, watch.end)]
        bookmarks = asyncio.create_task(self._bookmarks(watch))
        client = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait([watch.ended, client], return_when=asyncio.FIRST_COMPLETED)
            if watch.silent:
                await client
            if watch.reset:
                await asyncio.sleep(0)
                wire.reset()
            if watch.reset or watch.silent or client.done():
                return False
            wire.end_stream()
        finally:
            self._api.leave(watch)
            for timer in timers:
                timer.cancel()
            for task in (bookmarks, client):
                task.cancel()
            await asyncio.gather(bookmarks, client, return_exceptions=True)
        return True

    async def _bookmarks(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(self._bookmark_s)
            watch.bookmark(self._api.storage.version)

    # ------------------------------------------------------------------ from other threads
    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT_S)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        found: T = self._await(call())
        return found


def _as_object(resource: Resource, stored: Stored) -> dict[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **stored.value()}


def _server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = issued("localhost", "127.0.0.1", by="fake api server")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "tls.crt"), Path(folder, "tls.key")
        files[0].write_bytes(pair.cert)
        files[1].write_bytes(pair.key)
        context.load_cert_chain(*files)
    return context
