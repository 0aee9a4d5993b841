"""GET and POST mixed over kept-alive connections, every request with a mark of its own."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from stage.ports import Address
from stage.wire import Client, request_bytes

_BODY: Final = b"x" * 512
_numbers = itertools.count()


@dataclass(frozen=True)
class Sent:
    """One request and what came of it: a status, or 0 and an error."""

    mark: str
    method: str
    status: int
    error: str
    began_s: float
    took_s: float


class MixedLoad:
    """Runs as long as the block lasts: `threads` connections, GET and POST in turn, with a breath between requests."""

    def __init__(self, addresses: list[Address], *, host: str, threads: int = 4, pause_s: float = 0.002) -> None:
        self._addresses, self._host, self._pause_s = addresses, host, pause_s
        self.sent: list[Sent] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> MixedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        address = self._addresses[number % len(self._addresses)]
        client: Client | None = None
        for method in itertools.cycle(("GET", "POST")):
            if self._end.is_set():
                break
            client = self._exchange(method, address, client)
            self._end.wait(self._pause_s)
        if client is not None:
            client.close()

    def _exchange(self, method: str, address: Address, client: Client | None) -> Client | None:
        """One request; the connection if it can carry another."""
        mark = f"{method}-{next(_numbers)}"
        body = _BODY if method == "POST" else None
        data = request_bytes(
            f"/{mark}", host=self._host, method=method, headers={"X-Mark": mark}, body=body, keep_alive=True
        )
        began_s = time.monotonic()
        try:
            client = client or Client(address)
            client.give_up_in(30)
            client.send(data)
            reply = client.reply(method)
            status, error = (reply.status, "") if reply.complete else (0, reply.detail or "incomplete")
            reusable = reply.complete and (reply.one("connection") or "").lower() != "close"
        except OSError as failure:
            status, error, reusable = 0, repr(failure), False
        self.sent.append(Sent(mark, method, status, error, began_s, time.monotonic() - began_s))
        if client is not None and not reusable:
            with contextlib.suppress(OSError):
                client.close()
            return None
        return client

    def wait_for(self, count: int) -> None:
        """Until so many more requests have ended, however fast this machine is."""
        wanted, until = len(self.sent) + count, time.monotonic() + 120
        while len(self.sent) < wanted:
            assert time.monotonic() < until, self.summary()
            time.sleep(0.01)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def failed(self, method: str) -> list[Sent]:
        """Requests of a method that were not answered 200."""
        return [one for one in self.sent if one.method == method and one.status != 200]

    def summary(self) -> Counter[str]:
        """How often each outcome came."""
        return Counter(f"{one.method} {one.status or one.error}" for one in self.sent)
