"""ClientHellos put together by hand (RFC 8446, 4.1.2)."""


def vector(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(content, 2)


def server_name(name: bytes) -> bytes:
    return extension(0, vector(b"\0" + vector(name, 2), 2))


def records(message: bytes, size: int = 16384) -> bytes:
    return b"".join(b"\x16\x03\x01" + vector(message[i : i + size], 2) for i in range(0, len(message), size))


def hello(*extensions: bytes, tail: bytes = b"") -> bytes:
    body = b"\x03\x03" + b"r" * 32 + b"\0" + vector(b"\x13\x01", 2) + b"\1\0" + vector(b"".join(extensions), 2) + tail
    return b"\1" + vector(body, 3)
