"""The linked pair on httptools: llhttp's callbacks, and nothing made that the proxy does not ask for."""

import httptools
from pair import Head, main


class Message:
    """Collects what the parser calls back with. A new one, and a new parser, for each message."""

    def __init__(self):
        self.target, self.fields = b"", []

    def on_url(self, url):
        self.target += url

    def on_header(self, name, value):
        self.fields.append((name, value))


class Reader:
    """Reads heads."""

    def request(self, raw):
        message = Message()
        parser = httptools.HttpRequestParser(message)
        parser.feed_data(raw)
        return Head(parser.get_method(), message.target, message.fields)

    def response(self, raw):
        message = Message()
        parser = httptools.HttpResponseParser(message)
        parser.feed_data(raw)
        return Head(b"%d" % parser.get_status_code(), b"", message.fields)


if __name__ == "__main__":
    main(Reader())
