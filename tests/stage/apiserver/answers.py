"""What the server says when it does not say yes: `Status` objects, as apimachinery writes them."""

from __future__ import annotations

from typing import Any, Final

from stage.apiserver.resources import Resource

_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiFailureError(Exception):
    """A request that ends with a `Status`. `reason` "" is the usual one of the code."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        details: dict[str, Any] | None = None,
        retry_after_s: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s
        found = dict(details or {})
        if retry_after_s:
            found["retryAfterSeconds"] = retry_after_s
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or _REASONS.get(code, "Unknown"),
            **({"details": found} if found else {}),
            "code": code,
        }


def not_found(resource: Resource, name: str) -> ApiFailureError:
    """There is no such object."""
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiFailureError(404, f'{resource.qualified} "{name}" not found', details=details)


def no_such_path() -> ApiFailureError:
    """There is no such resource."""
    return ApiFailureError(404, "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> ApiFailureError:
    """An object of this name was there before."""
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiFailureError(
        409, f'{resource.qualified} "{name}" already exists', reason="AlreadyExists", details=details
    )


def conflict(resource: Resource, name: str, why: str = "") -> ApiFailureError:
    """The object changed since the client read it."""
    text = why or ("the object has been modified; please apply your changes to the latest version and try again")
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiFailureError(
        409, f'Operation cannot be fulfilled on {resource.qualified} "{name}": {text}', details=details
    )


def invalid(resource: Resource, name: str, field: str, why: str) -> ApiFailureError:
    """A field has a value that cannot be."""
    details = {
        "name": name,
        "group": resource.group,
        "kind": resource.kind,
        "causes": [{"reason": "FieldValueInvalid", "message": why, "field": field}],
    }
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return ApiFailureError(422, f'{kind} "{name}" is invalid: {field}: {why}', details=details)


def expired_list() -> ApiFailureError:
    """A `continue` whose version is compacted."""
    return ApiFailureError(
        410,
        "The provided continue parameter is too old to display a consistent list result. You must start a new list "
        "without the continue parameter.",
    )


def expired_watch(wanted: int, oldest: int) -> ApiFailureError:
    """A watch from a version that is compacted."""
    return ApiFailureError(410, f"too old resource version: {wanted} ({oldest})")


def from_the_future(wanted: int, present: int) -> ApiFailureError:
    """A version that this server has not reached, as after a restore of etcd."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiFailureError(
        504,
        f"Too large resource version: {wanted}, current: {present}",
        details={"causes": [cause]},
        retry_after_s=1,
    )
