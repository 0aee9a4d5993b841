"""From JSON bytes or plain values to objects. One object that is wrong is one error that names the path inside it."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import (
    ConfigMap,
    EndpointSlice,
    Ingress,
    IngressClass,
    KubernetesObject,
    Namespace,
    Secret,
    Service,
)
from ingressd.model.secret import PrivateBytes


class DecodeError(ValueError):
    """An object is not what its kind says. `field` is the path inside it ("spec.rules[0].host"), "" for the whole."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Kind(NamedTuple):
    """A kind that we read."""

    api_version: str
    type: type[KubernetesObject]
    namespaced: bool = True


KINDS: Final = {
    kind.type.__name__: kind
    for kind in (
        Kind("networking.k8s.io/v1", Ingress),
        Kind("networking.k8s.io/v1", IngressClass, False),
        Kind("v1", Service),
        Kind("discovery.k8s.io/v1", EndpointSlice),
        Kind("v1", Secret),
        Kind("v1", ConfigMap),
        Kind("v1", Namespace, False),
    )
}
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\Z")
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_PATH: Final = re.compile(r"(.*) - at `(?:key in )?\$\.?(.*)`\Z", re.DOTALL)


def _hook(of_type: type, value: Any) -> Any:
    if of_type is PrivateBytes and isinstance(value, str):
        try:
            return PrivateBytes(base64.b64decode("".join(value.split()), validate=True))
        except (binascii.Error, ValueError):
            raise ValueError("not base64") from None
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


_decoders: Final[dict[str, msgspec.json.Decoder[KubernetesObject]]] = {
    name: msgspec.json.Decoder(kind.type, dec_hook=_hook) for name, kind in KINDS.items()
}


def decode_json(kind: str, data: bytes | msgspec.Raw) -> tuple[ObjectKey, KubernetesObject]:
    """Decode one object of a kind of ours, as an API server sends it. Raises DecodeError."""
    try:
        value = _decoders[kind].decode(data)
    except msgspec.ValidationError:
        value = None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise DecodeError(f"not JSON: {exc}") from None
    if value is not None:
        return _named(kind, value)
    # The slow way: nulls, or a real mistake.
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise DecodeError(f"not JSON: {exc}") from None
    return decode_value(kind, plain)


def decode_value(kind: str, value: Any) -> tuple[ObjectKey, KubernetesObject]:
    """Decode one object of a kind of ours from plain values. Raises DecodeError."""
    if kind == "Secret" and isinstance(value, dict) and value.get("stringData"):
        value = _with_string_data(value)
    try:
        decoded = msgspec.convert(value, KINDS[kind].type, dec_hook=_hook)
    except msgspec.ValidationError:
        cleaned = _without_nulls(value)
        try:
            decoded = msgspec.convert(cleaned, KINDS[kind].type, dec_hook=_hook)
        except msgspec.ValidationError as exc:
            raise _located(exc, cleaned) from None
    return _named(kind, decoded)


def kind_of(value: Any) -> str | None:
    """The kind of a plain value when it is one of ours in the version we read, else None. Raises DecodeError.

    An error is: no mapping, no `kind` or `apiVersion`, or one of our kinds in a version that we do not read.
    """
    if not isinstance(value, dict):
        raise DecodeError(f"expected an object, got {type(value).__name__}")
    kind, version = value.get("kind"), value.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        raise DecodeError("there is no kind", field="kind")
    if not isinstance(version, str) or not version:
        raise DecodeError("there is no apiVersion", field="apiVersion")
    known = KINDS.get(kind)
    if known is None:
        return None
    if version == known.api_version:
        return kind
    if version.partition("/")[0] in ("extensions", known.api_version.partition("/")[0]):
        raise DecodeError(f"{kind} is read as {known.api_version}, not as {version}", field="apiVersion")
    return None


def key_of_value(kind: str, value: Any) -> ObjectKey | None:
    """The key of a value that may be wrong elsewhere, None when it does not even say that."""
    metadata = value.get("metadata") if isinstance(value, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        return None
    if not KINDS[kind].namespaced:
        return ObjectKey(kind, "", name)
    namespace = metadata.get("namespace") or "default"
    return ObjectKey(kind, namespace, name) if isinstance(namespace, str) else None


def _named(kind: str, value: KubernetesObject) -> tuple[ObjectKey, KubernetesObject]:
    metadata = value.metadata
    if _NAME.match(metadata.name) is None:
        message = f"{metadata.name!r} is no object name" if metadata.name else "there is no name"
        raise DecodeError(message, field="metadata.name")
    if not KINDS[kind].namespaced:
        namespace = ""
    else:
        namespace = metadata.namespace or "default"
        if _NAMESPACE.match(namespace) is None:
            raise DecodeError(f"{namespace!r} is no namespace", field="metadata.namespace")
    if namespace != metadata.namespace:
        metadata = msgspec.structs.replace(metadata, namespace=namespace)
        value = msgspec.structs.replace(value, metadata=metadata)
    # Thousands of keys share a namespace.
    return ObjectKey(kind, sys.intern(namespace), metadata.name), value


def _with_string_data(value: dict[str, Any]) -> dict[str, Any]:
    text = value["stringData"]
    if not isinstance(text, dict) or not all(isinstance(item, str) for item in text.values()):
        raise DecodeError("expected strings", field="stringData")
    data = value.get("data") or {}
    if not isinstance(data, dict):
        raise DecodeError("expected a mapping", field="data")
    encoded = {key: base64.b64encode(item.encode()).decode() for key, item in text.items()}
    return {**value, "data": {**data, **encoded}}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _located(exc: msgspec.ValidationError, value: Any) -> DecodeError:
    found = _PATH.match(str(exc))
    if found is None:
        return DecodeError(str(exc))
    message, path = found[1], found[2]
    parent, wildcard, _ = path.partition("[...]")
    if wildcard:
        key = _culprit(_at(value, parent))
        path = f"{parent}.{key}" if key is not None else parent
    return DecodeError(message, field=path)


def _at(value: Any, path: str) -> Any:
    for part in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return value


def _culprit(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    for key, item in value.items():
        if not isinstance(item, str):
            return cast("str", key)
    for key, item in value.items():
        try:
            base64.b64decode("".join(item.split()), validate=True)
        except (binascii.Error, ValueError):
            return cast("str", key)
    return None
