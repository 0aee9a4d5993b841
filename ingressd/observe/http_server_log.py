"""What the small HTTP servers (admin, webhook) log: our errors, not those of whoever connects."""

from __future__ import annotations

import logging


def http_server_logger(name: str) -> logging.Logger:
    """The logger `name` below `ingressd` for aiohttp, which logs a traceback of every bad request."""
    logger = logging.getLogger(f"ingressd.{name}")
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    code = getattr(error, "code", None)  # aiohttp's HttpProcessingError has one. Not imported: workers do without.
    return not (isinstance(code, int) and 400 <= code < 500)
