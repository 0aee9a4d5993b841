"""The pods: HTTP servers that answer with their own address, and can be killed as a process is that exits at once.

A child process. One listening socket on 0.0.0.0 is every immortal pod of 127.0.0.0/8; mortal ones listen on a port of
their own. Every pod notes which marked requests reached it, one that dies also those whose bytes it has not read yet:
what was lost then was lost with the pod, and nothing else may be.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct

from loadtest.control.child import serve

_RESET = struct.pack("ii", 1, 0)
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)")
_MARK = re.compile(rb"\r\n[Xx]-[Mm]ark: ([^\r]+)")


class Connection:
    """One connection to a pod. Plain sockets: a transport would end it a turn of the loop later."""

    def __init__(self, pod: Pod, sock: socket.socket) -> None:
        self.pod = pod
        self.sock = sock
        self._held = b""
        self._address = b"%s:%d" % (sock.getsockname()[0].encode(), sock.getsockname()[1])
        self._timers: set[asyncio.TimerHandle] = set()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pod.connections.add(self)
        pod.loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        data = self._held + data
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                break
            data = rest[size:]
            self._request(head)
        self._held = data

    def _request(self, head: bytes) -> None:
        mark = _MARK.search(head)
        if mark:
            self.pod.seen.append(mark[1].decode())
        if self.pod.delay_s:
            self._timers.add(self.pod.loop.call_later(self.pod.delay_s, self._answer))
        else:
            self._answer()

    def _answer(self) -> None:
        try:
            self.sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self._address), self._address))
        except OSError:
            self._close()

    def _close(self) -> None:
        if self.sock.fileno() >= 0:
            self.pod.loop.remove_reader(self.sock.fileno())
            self.pod.connections.discard(self)
            for timer in self._timers:
                timer.cancel()
            self.sock.close()

    def die(self) -> None:
        """End as the kernel ends the socket of a process that exits: RST over unread bytes, else FIN."""
        unread = b""
        try:
            while data := self.sock.recv(65536):
                unread += data
        except OSError:
            pass
        if unread:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()
        self.pod.seen += [mark.decode() for mark in _MARK.findall(self._held + unread)]


class Pod:
    """One listening pod. `seen` are the marks of requests that reached it."""

    def __init__(self, host: str, port: int, delay_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.delay_s = delay_s
        self.connections: set[Connection] = set()
        self.seen: list[str] = []
        self._listener = socket.create_server((host, port), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            Connection(self, sock)

    def die(self) -> int:
        """The process exits, at once; how many connections it had."""
        self._accept()
        self.loop.remove_reader(self._listener.fileno())
        self._listener.close()
        connections = list(self.connections)
        for connection in connections:
            connection.die()
        return len(connections)


class Pods:
    """All of them, by address; one that died and came again is another one."""

    def __init__(self) -> None:
        self._alive: dict[str, Pod] = {}
        self._all: list[Pod] = []

    async def start(self, host: str, port: int, delay_s: float = 0.0) -> int:
        """A pod at this address (port 0: any); its port."""
        pod = Pod(host, port, delay_s)
        self._alive[f"{host}:{pod.port}"] = pod
        self._all.append(pod)
        return pod.port

    async def kill(self, host: str, port: int) -> int:
        """The process of a pod exits; how many connections it had."""
        return self._alive.pop(f"{host}:{port}").die()

    async def marks(self) -> list[str]:
        """The marks of requests that have reached a pod, each as often as it did."""
        return [mark for pod in self._all for mark in pod.seen]


if __name__ == "__main__":
    _pods = Pods()
    serve({"start": _pods.start, "kill": _pods.kill, "marks": _pods.marks})
