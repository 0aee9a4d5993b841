"""The floor: the linked pair without any HTTP, bytes in, bytes out: what uvloop, Python's calls and the kernel cost."""

import asyncio

import pair


class Blind(asyncio.Protocol):
    """Either side; `other` is the transport to write to."""

    def __init__(self, port=0):
        self.port, self.other, self.early = port, None, b""

    def connection_made(self, transport):
        self.transport = transport
        if self.port:
            self.task = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        _, peer = await asyncio.get_running_loop().create_connection(Blind, "127.0.0.1", self.port)
        peer.other, self.other = self.transport, peer.transport
        self.other.write(self.early)

    def data_received(self, data):
        if self.other is None:
            self.early += data
        else:
            self.other.write(data)

    def connection_lost(self, exc):
        if self.other is not None:
            self.other.close()


if __name__ == "__main__":
    pair.Client = lambda shared, scheme: Blind(shared.upstream_port)
    pair.main(None)
