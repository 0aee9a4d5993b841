"""What a head may hold, and the error of one that holds something else."""

from typing import Any, Final

CACHE_ENTRIES: Final = 4096
CACHE_LINE_BYTES: Final = 256
CACHE_NAME_BYTES: Final = 64

Entry = int | tuple[int, bytes, Any]
"""FORWARD, or (kind, line to forward, value; its type is the kind's)."""


class HeadError(Exception):
    """A head that must not be acted on. `status` is what to answer with, `reason` is for the access log only."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class HeadLimits:
    """What a head may hold, and the memory of lines already classified under this policy.

    Sizes are bytes; `max_fields` counts lines. `underscores` keeps names with "_"; `drop_invalid` silently drops names
    outside letters, digits and "-" as nginx's `ignore_invalid_headers` does, else they are forwarded. One instance
    serves one policy; make a new one when the policy changes. Not for two threads at once.
    """

    __slots__ = (
        "drop_invalid",
        "field_line_bytes",
        "head_bytes",
        "max_fields",
        "names",
        "request_line_bytes",
        "requests",
        "responses",
        "underscores",
    )

    def __init__(
        self,
        *,
        request_line_bytes: int = 8192,
        field_line_bytes: int = 8192,
        head_bytes: int = 32768,
        max_fields: int = 100,
        underscores: bool = False,
        drop_invalid: bool = True,
    ) -> None:
        self.request_line_bytes = request_line_bytes
        self.field_line_bytes = field_line_bytes
        self.head_bytes = head_bytes
        self.max_fields = max_fields
        self.underscores = underscores
        self.drop_invalid = drop_invalid
        # The caches hold results of pure functions of (bytes, this policy), so dropping an entry, or all of them, costs
        # time only. Clearing when full bounds memory without the bookkeeping of an LRU on every hit.
        self.requests: dict[bytes, Entry] = {}
        self.responses: dict[bytes, Entry] = {}
        self.names: dict[bytes, tuple[bytes, int, bool]] = {}
