"""The linked pair on aiohttp's own C parsers: llhttp too, but a URL, a multidict, a stream for each."""

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, HttpResponseParser
from pair import HIGH_WATER, Head, main


class Reader:
    """Reads heads. A new parser for each message, as the other experiment does."""

    def _ready(self):
        loop = asyncio.get_running_loop()
        return BaseProtocol(loop), loop

    def request(self, raw):
        protocol, loop = self._ready()
        messages, _, _ = HttpRequestParser(protocol, loop, HIGH_WATER).feed_data(raw)
        message = messages[0][0]
        return Head(message.method.encode(), message.path.encode(), message.raw_headers)

    def response(self, raw):
        protocol, loop = self._ready()
        messages, _, _ = HttpResponseParser(protocol, loop, HIGH_WATER).feed_data(raw)
        message = messages[0][0]
        return Head(b"%d" % message.code, b"", message.raw_headers)


if __name__ == "__main__":
    main(Reader())
