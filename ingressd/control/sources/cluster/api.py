"""The API server as we speak to it: requests, streams, and what went wrong."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from ingressd.control.sources.cluster.credentials import Access, Credentials, CredentialsError, said_by
from ingressd.control.sources.cluster.proxies import proxy_for
from ingressd.settings.config import KubernetesConfig
from ingressd.version import __version__

REREAD_S: Final = 60.0
"""How old credentials may be; a service account's token is written anew when a fifth of its hour is left."""
AFTER_FAILURE_S: Final = 1.0
"""How soon credentials that could not be read are read again."""
CONNECT_S: Final = 5.0
HEAD_S: Final = 15.0
"""How long the head of a stream may take: an API server sends it before the first event."""
UNANSWERED_MS: Final = 15_000
"""How long bytes of ours may stay unacknowledged on a stream, keep-alive probes included (RFC 5482)."""
log = logging.getLogger("ingressd.cluster")

_JSON: Final = "application/json"
_NOTHING: Final[Mapping[str, str]] = {}


class ApiError(Exception):
    """A request failed. `status` is HTTP's, 0 when there was no answer; `reason` is Kubernetes' ("Expired")."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float = 0


class Status(msgspec.Struct):
    """What an API server says instead of an object (metav1.Status)."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


class Stream:
    """The body of an answer as it comes. An async context manager, whose entry asks and whose exit hangs up."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _Answer]]) -> None:
        self._ask = ask
        self._answer: _Answer | None = None

    async def __aenter__(self) -> Stream:
        self._answer = await self._ask()
        _notice_silence(self._answer.response)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            await self._answer.close()

    async def read(self) -> bytes:
        """What has arrived, at least a byte; b"" at the end. Raises ApiError (status 0) when it breaks off."""
        assert self._answer is not None
        with _failures():
            return await self._answer.response.content.readany()


class ApiServer:
    """One API server. Credentials are read again every minute and when it answers 401; nothing else is remembered of
    a failure: whoever asks decides when to ask again."""

    def __init__(self, credentials: Credentials, *, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._credentials = credentials
        self._environ = environ
        self._clock = clock
        self._access: Access | None = None
        self._transport: _Transport | None = None
        self._transports: set[_Transport] = set()
        self._proxy: str | None = None
        self._reading = asyncio.Lock()
        self._read_at_s = 0.0
        self._stale = False
        self._failure: CredentialsError | None = None

    @classmethod
    async def connect(
        cls, config: KubernetesConfig, *, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> ApiServer:
        """The API server of a configuration. Nothing is asked yet, so this never fails: the first request may."""
        return cls(Credentials(config, environ=environ, clock=clock), environ=environ, clock=clock)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = _NOTHING,
        body: bytes | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout_s: float = 30.0,
    ) -> bytes:
        """The body of the answer. Raises ApiError for every answer that is not 2xx, and for none."""
        headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        answer = await self._ask(method, path, query, headers=headers, body=body, timeout=timeout)
        try:
            with _failures():
                return await answer.response.read()
        finally:
            await answer.close()

    def stream(
        self, path: str, *, query: Mapping[str, str] = _NOTHING, accept: str = _JSON, timeout_s: float
    ) -> Stream:
        """GET, and the body as it comes. `timeout_s` is how long nothing may come. Entering raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=timeout_s)
        return Stream(partial(self._ask, "GET", path, query, headers={"Accept": accept}, body=None, timeout=timeout))

    def renew(self) -> None:
        """Ask on new connections from now on: those that wait in the pool may lead nowhere. Streams stay."""
        self._stale = True

    async def close(self) -> None:
        """Close every connection; streams break off."""
        for transport in tuple(self._transports):
            await transport.client.close()
        self._transports.clear()
        self._transport = self._access = None

    # ------------------------------------------------------------------ one exchange
    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        headers: dict[str, str],
        body: bytes | None,
        timeout: aiohttp.ClientTimeout,
    ) -> _Answer:
        """An answer of 2xx. A 401 is asked once more with credentials read anew."""
        # In a cluster's network compression costs more time than it saves.
        headers |= {"User-Agent": f"ingressd/{__version__}", "Accept-Encoding": "identity"}
        path = f"{path}?{urlencode(query)}" if query else path
        access, transport = await self._ready()
        answer = await self._send(method, path, access, transport, headers=headers, body=body, timeout=timeout)
        if answer.response.status == 401:
            await answer.close()
            access, transport = await self._ready(refused=access)
            answer = await self._send(method, path, access, transport, headers=headers, body=body, timeout=timeout)
        if not 200 <= answer.response.status <= 299:
            try:
                with _failures():
                    raise _refusal(answer.response, await answer.response.read())
            finally:
                await answer.close()
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        access: Access,
        transport: _Transport,
        *,
        headers: dict[str, str],
        body: bytes | None,
        timeout: aiohttp.ClientTimeout,
    ) -> _Answer:
        if access.authorization:
            headers["Authorization"] = access.authorization
        transport.users += 1
        response = None
        try:
            with _failures():
                # A stream has no total; its head has a deadline nevertheless.
                async with asyncio.timeout(timeout.total or CONNECT_S + HEAD_S):
                    response = await transport.client.pool_manager.request(
                        method,
                        URL(access.host + path, encoded=True),
                        data=body,
                        headers=headers,
                        timeout=timeout,
                        proxy=self._proxy,
                        server_hostname=transport.client.server_hostname,
                        allow_redirects=False,
                    )
        finally:
            if response is None:
                await self._leave(transport)
        return _Answer(response, lambda: self._leave(transport))

    async def _leave(self, transport: _Transport) -> None:
        transport.users -= 1
        if not transport.users and transport is not self._transport and transport in self._transports:
            self._transports.discard(transport)
            await transport.client.close()

    # ------------------------------------------------------------------ credentials
    async def _ready(self, *, refused: Access | None = None) -> tuple[Access, _Transport]:
        """Credentials that are not too old, or not those that were refused. Raises ApiError when there never were."""
        if self._reading.locked() and refused is None and self._access is not None and self._transport is not None:
            return self._access, self._transport  # An exec plugin may take long, and holds nobody up but who asked.
        async with self._reading:
            if refused is not None:
                due = self._access is refused
            elif self._failure is not None:
                due = self._clock() - self._read_at_s >= AFTER_FAILURE_S
            else:
                due = self._access is None or self._stale or self._clock() - self._read_at_s >= REREAD_S
            if due:
                await self._read(refused=refused is not None)
            if self._access is None or self._transport is None:
                raise ApiError(0, "NoCredentials", str(self._failure))
            return self._access, self._transport

    async def _read(self, *, refused: bool) -> None:
        self._read_at_s = self._clock()
        before = self._failure
        try:
            access = await self._credentials.read(
                refused=refused,
                transport=b"" if self._access is None or self._stale else self._access.transport,
            )
        except CredentialsError as error:
            self._failure = error
            if before is None or str(before) != str(error):
                log.warning("credentials of the API server cannot be read: %s", error)
            return
        self._failure = None
        self._stale = False
        if before is not None:
            log.info("credentials of the API server can be read again")
        self._access = access
        self._proxy = access.proxy or proxy_for(access.host, self._environ)
        if access.client is not None:
            # Set already for what NO_PROXY or a kubeconfig's `proxy-url` say; aiohttp's own reading knows no networks.
            access.client.pool_manager._trust_env = False
            old, self._transport = self._transport, _Transport(access.client)
            self._transports.add(self._transport)
            if old is not None and not old.users:
                self._transports.discard(old)
                await old.client.close()


class _Transport:
    """A client of kubernetes-asyncio, and how many exchanges run on it: one that was replaced lives until none does."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.users = 0


class _Answer(NamedTuple):
    """An answer that has to be closed."""

    response: aiohttp.ClientResponse
    left: Callable[[], Awaitable[None]]

    async def close(self) -> None:
        """Hang up, unless the answer was read to its end: then the connection is back in its pool."""
        connection = self.response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # A farewell of TLS would wait for a peer that may be gone.
        self.response.release()
        await self.left()


@contextmanager
def _failures() -> Iterator[None]:
    """What aiohttp raises, as an ApiError of status 0."""
    try:
        yield
    except TimeoutError:
        raise ApiError(0, "Timeout", "no answer in time") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # A ValueError is about a URL or a proxy that aiohttp cannot use.
        raise ApiError(0, "Unreachable", said_by(error)) from None


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = Status()
    return api_error(
        msgspec.structs.replace(status, code=response.status), retry_after=response.headers.get("Retry-After", "")
    )


def api_error(status: Status, *, retry_after: str = "") -> ApiError:
    """A Status as an error. `retry_after` is the field of this name, which has the word before the Status."""
    seconds = status.details.retry_after_seconds if status.details is not None else 0
    if retry_after.strip().isdecimal():
        seconds = float(retry_after)
    try:
        reason = status.reason or HTTPStatus(status.code).phrase.replace(" ", "")
    except ValueError:
        reason = "Unknown"
    return ApiError(status.code, reason, status.message or reason, retry_after_s=seconds or None)


def _notice_silence(response: aiohttp.ClientResponse) -> None:
    """Let the kernel ask whether a peer that sends nothing is still there: one that vanished is noticed in 20 s."""
    transport = response.connection.transport if response.connection is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, 5),
            (socket.TCP_KEEPINTVL, 5),
            (socket.TCP_KEEPCNT, 3),
            (socket.TCP_USER_TIMEOUT, UNANSWERED_MS),
        ):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
