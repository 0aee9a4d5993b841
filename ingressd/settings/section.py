"""Reading a mapping of the configuration file key by key: a mistake is noted with its position, and reading goes on."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from ingressd.settings.config import ConfigProblem
from ingressd.settings.nearest import did_you_mean
from ingressd.settings.values import file_name
from ingressd.settings.yaml_reader import KeyPath, Marks, format_path

_HOST_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*)):([0-9]{1,5})\Z")
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z")


class Report:
    """Collects the problems of one file. `origins` names the flag or variable that set a key path, if one did."""

    def __init__(self, file: str, marks: Marks, origins: Mapping[KeyPath, str]) -> None:
        self.file = file
        self.folder = os.path.dirname(file)
        self.problems: list[ConfigProblem] = []
        self._marks = marks
        self._origins = origins

    def note(self, path: KeyPath, message: str, *, entry: KeyPath = (), warning: bool = False) -> None:
        """Note a problem at a key path; `entry` is what is left out because of it, () for the whole file."""
        severity: Literal["error", "warning"] = "warning" if warning else "error"
        origin = self._origins.get(path)
        if origin is not None:
            self.problems.append(ConfigProblem(origin, message, format_path(entry), severity=severity))
            return
        at = path
        while at and at not in self._marks:
            at = at[:-1]
        line, column = self._marks.get(at, (0, 0))
        self.problems.append(
            ConfigProblem(format_path(path), message, format_path(entry), self.file, line, column, severity)
        )


class Section:
    """A mapping at a key path. Reading a wrong value notes it and returns the default; `ok` then turns false."""

    def __init__(self, report: Report, value: Any, path: KeyPath = (), *, entry: KeyPath = ()) -> None:
        self.report = report
        self.path = path
        self.entry = entry
        self.ok = True
        if value is not None and not isinstance(value, dict):
            self.wrong((), f"expected a mapping, got {describe(value)}")
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}

    def wrong(self, path: KeyPath, message: str) -> None:
        """Note a problem at a path relative to this section."""
        self.ok = False
        self.report.note((*self.path, *path), message, entry=self.entry)

    def known(self, *keys: str) -> None:
        """Note every key that is not one of these."""
        for key in self._values:
            if key not in keys:
                self.wrong((key,), f"unknown key{did_you_mean(key, keys)}")

    def get(self, key: str) -> Any:
        """The raw value, None when it is not there."""
        return self._values.get(key)

    def keys(self) -> list[str]:
        """The keys in the order of the file."""
        return list(self._values)

    def section(self, key: str, *, entry: KeyPath | None = None) -> Section:
        """A mapping inside, empty when it is not there."""
        return Section(self.report, self.get(key), (*self.path, key), entry=self.entry if entry is None else entry)

    def text(self, key: str, default: str = "", *, required: bool = False) -> str:
        """A string."""
        value = self.get(key)
        if value is None:
            if required:
                self.wrong((), f"{key!r} is missing")
            return default
        if not isinstance(value, str):
            self.wrong((key,), f"expected a string, got {describe(value)}")
            return default
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
            self.wrong((key,), "control characters are not allowed")
            return default
        return value

    def choice(self, key: str, known: tuple[str, ...], *, default: str) -> Any:
        """One of a few words."""
        value = self.text(key, default)
        if value not in known:
            words = ", ".join(word for word in known if word)  # The empty one stands for the key that is not there.
            self.wrong((key,), f"expected one of {words}, got {value!r}{did_you_mean(value, known)}")
            return default
        return value

    def integer(self, key: str, default: int, *, least: int, most: int) -> int:
        """A whole number between two bounds, both included."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.wrong((key,), f"expected a whole number from {least} to {most}, got {describe(value)}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong((key,), f"expected true or false, got {describe(value)}")
            return default
        return value

    def items(self, key: str) -> Iterator[tuple[KeyPath, Any]]:
        """Path and value of each item of a list."""
        value = self.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.wrong((key,), f"expected a list, got {describe(value)}")
            return
        for index, item in enumerate(value):
            yield (*self.path, key, index), item

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings that are not empty."""
        out = []
        for path, item in self.items(key):
            if isinstance(item, str) and item and item.isprintable():
                out.append(item)
            else:
                self.wrong(path[len(self.path) :], f"expected a string, got {describe(item)}")
        return tuple(out)

    def file_path(self, key: str, *, required: bool = False) -> str:
        """A path, made absolute from the file's folder; "" stays empty."""
        value = self.text(key, required=required)
        try:
            file_name(value)
        except ValueError as error:
            self.wrong((key,), str(error))
            return ""
        return os.path.normpath(os.path.join(self.report.folder, value)) if value else ""

    def ip_and_port(self, key: str, *, default: tuple[str, int]) -> tuple[str, int]:
        """An address to listen on: "127.0.0.1:80", "[::]:80", ":80"."""
        value = self.get(key)
        if value is None:
            return default
        try:
            host, port = split_host_port(value)
            return str(ipaddress.ip_address(host or "::")), port
        except ValueError as exc:
            message = str(exc) if "port" in str(exc) else f"expected an IP address and a port, got {describe(value)}"
            self.wrong((key,), message)
            return default


def describe(value: Any) -> str:
    """A wrong value in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def split_host_port(value: Any) -> tuple[str, int]:
    """ "host:port" or "[v6]:port". Raises ValueError."""
    found = _HOST_PORT.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected an address and a port like 127.0.0.1:8080 or [::1]:8080, got {describe(value)}")
    port = int(found[3])
    if not 1 <= port <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {port}")
    if found[1] is not None:
        return str(ipaddress.IPv6Address(found[1])), port
    return found[2], port


def endpoint_host(host: str) -> str:
    """An IP literal in canonical form, or a lowercased host name. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if _HOST_NAME.match(host) is None or host.rpartition(".")[2].isdigit():
            raise ValueError(f"{host!r} is no address and no host name") from None
        return host.lower()
