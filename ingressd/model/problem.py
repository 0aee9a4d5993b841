"""A problem: something wrong in a user's object, said once and shown everywhere."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


class Origin(msgspec.Struct, frozen=True, order=True):
    """The object a unit or a problem came from.

    `kind` is the Kubernetes kind ("Ingress"), or "Config" for the configuration file, whose `namespace` is "" and whose
    `name` is the top-level key. `rule` is the path inside the object, in the spelling of kubectl's errors
    ("spec.rules[0].http.paths[1]"), "" for the whole object.
    """

    kind: str
    namespace: str
    name: str
    rule: str = ""

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name}" + (f" ({self.rule})" if self.rule else "")


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing wrong in one user's object.

    `reason` is the CamelCase word used for Events and conditions; `field` is the path or annotation key the message is
    about, relative to the object ("spec.rules[0].http.paths[0].pathType"); `file` and `line` (1-based) are filled in by
    whoever knows where the object was read from, and are "" and 0 otherwise.
    """

    severity: Severity
    origin: Origin
    reason: str
    field: str
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.where}: " if self.file else ""
        return f"{where}{self.severity}: {self.about}: {self.message} [{self.reason}]"

    @property
    def where(self) -> str:
        """File and line, as far as they are known."""
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def about(self) -> str:
        """Object and field. A field of the configuration file begins with its top-level key: once is enough."""
        origin = self.origin
        if origin.kind == "Config" and not origin.rule and self.field.startswith(origin.name):
            return f"Config {self.field}" if self.field else "Config"
        return f"{origin} {self.field}" if self.field else str(origin)
