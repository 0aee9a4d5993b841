"""The operational log: what changed and why, on stderr, as text or JSON. Standard library only.

Objects are named in the message or in `extra` fields (`extra={"object": str(origin)}`); fields in `extra` become
`key=value` in text and members in JSON. Bodies, cookies, credentials and keys are never passed in; `PrivateBytes`
redacts itself should it happen.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _moment(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class TextFormat(logging.Formatter):
    """`TIME LEVEL process: message key=value`, a line each but for tracebacks."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One record as text; line breaks inside a message are escaped."""
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        fields = "".join(
            f" {name}={json.dumps(str(value), ensure_ascii=False)}" for name, value in _fields(record).items()
        )
        line = f"{_moment(record)} {record.levelname.lower():7} {self._process}: {message}{fields}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class JsonFormat(logging.Formatter):
    """One JSON object a line: time, level, process, logger, message, and the fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line of JSON."""
        entry = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(level: str, form: str, *, process: str, stream: TextIO | None = None) -> logging.Logger:
    """Make the logger `ingressd` write to `stream` (stderr); the logger. `process` is who speaks ("worker 1").

    `level` and `form` are of `LEVELS` and `FORMATS`. Raises KeyError for others.
    """
    logger = logging.getLogger("ingressd")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter({"text": TextFormat, "json": JsonFormat}[form](process))
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel({name: getattr(logging, name.upper()) for name in LEVELS}[level])
    logger.propagate = False
    # A closed stderr must not end a process that serves.
    logging.raiseExceptions = False
    return logger
