"""A new connection to an endpoint, TLS handshake included: for exchanges and for probes the same."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, Final, cast

from ingressd.proxy.tls.client import TlsClient, UpstreamContext
from ingressd.proxy.tls.transport import TlsShare
from ingressd.proxy.upstream.connection import UpstreamConnection

OUT_OF_RESOURCES: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE}
)
"""Why a connection can fail without the endpoint having been asked: file descriptors, memory, or ports used up."""


async def open_connection(
    connection: UpstreamConnection, address: str, port: int, *, context: UpstreamContext | None, share: TlsShare
) -> None:
    """Connect `connection`, which names the server if `context` says that TLS is to be spoken.

    Raises OSError when the endpoint cannot be reached, ssl.SSLError or ValueError when the handshake fails. The caller
    bounds the time by cancelling.
    """
    loop = asyncio.get_running_loop()
    if context is None:
        try:
            await loop.create_connection(lambda: cast(Any, connection), address, port)
        except asyncio.CancelledError:
            connection.close()  # Connected in the very turn in which the caller gave up.
            raise
        return
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready(error: BaseException | None) -> None:
        if ready.done():
            return
        if error is None:
            ready.set_result(None)
        else:
            ready.set_exception(error)

    name = connection.server_name
    transport, _ = await loop.create_connection(
        lambda: TlsClient(context, connection, share, server_hostname=name, on_ready=on_ready), address, port
    )
    try:
        await ready
    except BaseException:
        transport.abort()
        raise
