"""`labelSelector` and `fieldSelector` of a query."""

from __future__ import annotations

import re
from collections.abc import Callable

from stage.apiserver.answers import ApiFailureError
from stage.apiserver.storage import Stored

Select = Callable[[Stored], bool]

_SET = re.compile(r"\s*([^\s!=]+)\s+(in|notin)\s*\(([^)]*)\)\s*")
_SPLIT = re.compile(r",(?![^(]*\))")


def selecting(labels: str, fields: str) -> Select | None:
    """What both selectors let through; None when they are empty. Raises ApiFailureError (400)."""
    tests = [_label_test(term) for term in _SPLIT.split(labels) if term.strip()]
    tests += [_field_test(term) for term in fields.split(",") if term.strip()]
    if not tests:
        return None
    return lambda stored: all(test(stored) for test in tests)


def _label_test(term: str) -> Select:
    if found := _SET.fullmatch(term):
        key, word, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        if word == "in":
            return lambda stored: stored.labels.get(key) in values
        return lambda stored: stored.labels.get(key) not in values
    if "!=" in term:
        key, value = (part.strip() for part in term.split("!=", 1))
        return lambda stored: stored.labels.get(key) != value
    if "=" in term:
        key, value = (part.strip() for part in term.replace("==", "=").split("=", 1))
        return lambda stored: stored.labels.get(key) == value
    name = term.strip()
    if name.startswith("!"):
        return lambda stored: name[1:] not in stored.labels
    return lambda stored: name in stored.labels


def _field_test(term: str) -> Select:
    key, equals, value = term.strip().replace("==", "=").partition("=")
    if not equals or key.rstrip("!") not in ("metadata.name", "metadata.namespace", "type"):
        raise ApiFailureError(400, f"field label not supported: {key.rstrip('!')}")
    field = key.rstrip("!")
    wanted = field == key

    def test(stored: Stored) -> bool:
        if field == "metadata.name":
            found = stored.name[1]
        elif field == "metadata.namespace":
            found = stored.name[0]
        else:  # `type` of a Secret.
            found = stored.value().get("type", "")
        return (found == value) is wanted

    return test
