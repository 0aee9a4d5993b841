"""What a running instance knows, asked at its admin listener."""

from __future__ import annotations

import http.client

import msgspec

from ingressd.model.codec import units_from_json
from ingressd.model.units import Unit

ADMIN_TIMEOUT_S = 10.0


class AdminError(Exception):
    """The instance did not answer, or not what was asked; the words are for people."""


class _Endpoint(msgspec.Struct):
    upstream: str
    address: str
    healthy: bool
    ejected: bool
    said: str


class _Health(msgspec.Struct):
    endpoints: list[_Endpoint]


def fetch_units(admin: str) -> dict[str, Unit]:
    """The snapshot: GET /debug/snapshot. Raises AdminError."""
    path = "/debug/snapshot"
    status, body = _get(admin, path)
    if status != 200:
        raise AdminError(f"the admin listener at {admin} answered {status} to {path}")
    try:
        return units_from_json(body)
    except msgspec.DecodeError as error:
        raise AdminError(f"what {admin} answered is no snapshot: {error}") from None


def fetch_health(admin: str) -> dict[tuple[str, str], str]:
    """Why endpoints with health checks get no request now, by upstream and "address:port". Raises AdminError.

    GET /debug/health; an instance that is too old to have that says nothing.
    """
    path = "/debug/health"
    status, body = _get(admin, path)
    if status == 404:
        return {}
    if status != 200:
        raise AdminError(f"the admin listener at {admin} answered {status} to {path}")
    try:
        endpoints = msgspec.json.decode(body, type=_Health).endpoints
    except msgspec.DecodeError as error:
        raise AdminError(f"what {admin} answered to {path} cannot be read: {error}") from None
    return {
        (one.upstream, one.address): "ejected" if one.healthy else f"unhealthy: {one.said}".removesuffix(": ")
        for one in endpoints
        if one.ejected or not one.healthy
    }


def _get(admin: str, path: str) -> tuple[int, bytes]:
    address = admin.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=ADMIN_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise AdminError(f"the admin listener at {address} does not answer: {error}") from None
    finally:
        connection.close()
