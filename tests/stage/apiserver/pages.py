"""Lists that clients read page by page."""

from __future__ import annotations

import base64
from typing import Any

import msgspec


class Pages:
    """Lists that are being read page by page: each keeps the version and the objects of its first page."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[int, list[Any], int]] = {}
        self._given = 0

    def keep(self, version: int, found: list[Any], start: int) -> str:
        """A `continue` for what comes after."""
        self._given += 1
        text = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": version, "start": f"{self._given}"})
        token = base64.urlsafe_b64encode(text).decode().rstrip("=")
        self._lists[token] = version, found, start
        return token

    def take(self, token: str) -> tuple[int, list[Any], int] | None:
        """The list that a `continue` stands for; it may be asked again, as after a lost answer. None: compacted."""
        return self._lists.get(token)

    def forget(self) -> None:
        """Compaction."""
        self._lists.clear()
