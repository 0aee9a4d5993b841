"""A UDP syslog sink that appends what it receives to a file: HAProxy writes no log files itself."""

from __future__ import annotations

import socket
import sys


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("127.0.0.1", port))
    with open(path, "ab", buffering=1 << 16) as sink:
        while True:
            sink.write(sock.recv(8192) + b"\n")


if __name__ == "__main__":
    main()
