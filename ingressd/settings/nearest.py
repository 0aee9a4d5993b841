"""The nearest known word, for messages about unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one, None when none is like it. The order of `known` breaks ties."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to put behind "unknown key": '; did you mean "workers"?', or the empty string."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
