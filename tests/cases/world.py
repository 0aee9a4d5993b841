"""From a case, as README.md describes it, to Kubernetes objects and the echoes behind them."""

from __future__ import annotations

import base64
import copy
import re
from typing import Any

from stage import certificates
from stage.echo import Echo, EchoLoop
from stage.ports import listening, new_host

CONTROLLER = "ingressd.dev/ingress-controller"
CLASS = "ingressd"
KEYS = {
    "name", "source", "settings", "flags", "zone", "classes", "ingresses", "services", "certificates", "objects",
    "upstream_connections", "steps", "later",
}  # fmt: skip
ENDPOINT_KEYS = {
    "id", "ready", "serving", "terminating", "slice", "family", "zone", "zones", "listens", "port", "pod",
}  # fmt: skip

Object = dict[str, Any]


def _object(api: str, kind: str, name: str, namespace: str | None = "default", **rest: Any) -> Object:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    return {"apiVersion": api, "kind": kind, "metadata": {**metadata, **rest.pop("metadata", {})}, **rest}


def _backend(text: str) -> Object:
    name, _, port = text.rpartition(":")
    return {"service": {"name": name, "port": {"number": int(port)} if port.isdigit() else {"name": port}}}


def _path(text: str) -> Object:
    kind, path, backend = text.split(" ")
    return {"path": path, "pathType": kind, "backend": _backend(backend)}


def ingress_object(name: str, written: Object) -> Object:
    """One Ingress from its short form."""
    short = dict(written)
    spec: Object = short.pop("spec", None) or {}
    if (class_name := short.pop("class", CLASS)) is not None:
        spec = {"ingressClassName": class_name, **spec}
    if "default" in short:
        spec["defaultBackend"] = _backend(short.pop("default"))
    rules = [
        {**({"host": host} if host else {}), "http": {"paths": [_path(path) for path in paths]}}
        for host, paths in short.pop("hosts", {}).items()
    ]
    tls = [
        {"hosts": hosts, "secretName": secret} if hosts else {"secretName": secret}
        for secret, hosts in short.pop("tls", {}).items()
    ]
    spec = {**spec, **({"rules": rules} if rules else {}), **({"tls": tls} if tls else {})}
    metadata: Object = {}
    if "created" in short:
        metadata["creationTimestamp"] = short.pop("created")
    if "annotations" in short:
        metadata["annotations"] = short.pop("annotations")
    namespace = short.pop("namespace", "default")
    assert not short, f"unknown keys of an Ingress: {sorted(short)}"
    return _object("networking.k8s.io/v1", "Ingress", name, namespace, metadata=metadata, spec=spec)


_PLACEHOLDER = re.compile(r"\$\{(?:([A-Z_]+)|(.)\*(\d+))\}")


def expand(value: Any, **names: object) -> Any:
    """The value with `${NAME}` replaced by a name given here and `${x*N}` by N times x, in every string."""
    if isinstance(value, dict):
        return {key: expand(item, **names) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, **names) for item in value]
    if not isinstance(value, str):
        return value
    return _PLACEHOLDER.sub(lambda m: str(names[m[1]]) if m[1] else m[2] * int(m[3]), value)


class World:
    """The objects and the echoes of one case."""

    def __init__(self, case: Object, loop: EchoLoop) -> None:
        unknown = set(case) - KEYS
        assert not unknown, f"unknown keys of a case: {sorted(unknown)}"
        self.case, self._loop = case, loop
        self.echoes: list[Echo] = []
        self.objects: list[Object] = self._classes() + self._secrets()
        ingresses = [ingress_object(name, written) for name, written in case.get("ingresses", {}).items()]
        try:
            for namespace, name in sorted(self._services(ingresses)):
                self.objects += self._service(namespace, name)
        except BaseException:
            self.close()
            raise
        self.objects += copy.deepcopy(case.get("objects", [])) + ingresses
        namespaces = {o["metadata"]["namespace"] for o in self.objects if "namespace" in o["metadata"]}
        self.objects += [_object("v1", "Namespace", namespace, None) for namespace in sorted(namespaces)]

    def close(self) -> None:
        """End the echoes."""
        for echo in self.echoes:
            echo.close()

    @property
    def config(self) -> Object:
        """The configuration keys that the case sets."""
        return {
            "settings": self.case.get("settings", {}),
            "flags": self.case.get("flags", {}),
            "zone": self.case.get("zone", ""),
        }

    def _classes(self) -> list[Object]:
        classes = self.case.get("classes", {CLASS: CONTROLLER})
        return [
            _object("networking.k8s.io/v1", "IngressClass", name, None, spec={"controller": controller})
            for name, controller in classes.items()
        ]

    def _secrets(self) -> list[Object]:
        made = []
        for name, hosts in self.case.get("certificates", {}).items():
            pair = certificates.selfsigned(*hosts)
            content = {"tls.crt": pair.cert, "tls.key": pair.key}
            encoded = {key: base64.b64encode(value).decode() for key, value in content.items()}
            made.append(_object("v1", "Secret", name, type="kubernetes.io/tls", data=encoded))
        return made

    def _services(self, ingresses: list[Object]) -> set[tuple[str, str]]:
        found = set()
        for ingress in ingresses:
            spec, namespace = ingress["spec"], ingress["metadata"]["namespace"]
            paths = [path for rule in spec.get("rules") or [] for path in (rule.get("http") or {}).get("paths") or []]
            backends = [spec.get("defaultBackend"), *(path.get("backend") for path in paths)]
            found |= {(namespace, b["service"]["name"]) for b in backends if b and "service" in b}
        named = {name for _, name in found}
        found |= {("default", name) for name in self.case.get("services", {}) if name not in named}
        return found

    # --- one Service --------------------------------------------------------------------------------------------------

    def _service(self, namespace: str, name: str) -> list[Object]:
        written = self.case.get("services", {}).get(name, {})
        if written.get("missing"):
            return []
        plain = {"selector": {"app": name}, "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080}]}
        spec = written.get("spec", plain)
        service = _object("v1", "Service", name, namespace, spec=spec)
        listed = written.get("endpoints", 1)
        if isinstance(listed, int):
            listed = [{"id": f"{name}-{number}", "ready": True} for number in range(listed)]
        ports = [port.get("name", "") for port in spec.get("ports", [])]
        return [service, *self._slices(namespace, name, ports, listed)]

    def _slices(self, namespace: str, name: str, ports: list[str], listed: list[Object]) -> list[Object]:
        """EndpointSlices of one Service, and the echoes they lead to. The same id twice is the same address."""
        for entry in listed:
            assert set(entry) <= ENDPOINT_KEYS, f"unknown keys of an endpoint: {entry}"
        v6 = {entry["id"] for entry in listed if entry.get("family") == "IPv6"}
        host = {entry["id"]: "::1" if entry["id"] in v6 else new_host() for entry in listed}
        number: dict[tuple[str, str], int] = {}
        for port in ports:
            ids = list(dict.fromkeys(e["id"] for e in listed if e.get("port", port) == port))
            v4 = [i for i in ids if i not in v6]
            socks = dict(zip(v4, listening([host[i] for i in v4]), strict=True))
            socks |= {i: listening([host[i]])[0] for i in ids if i in v6}  # There is only one ::1.
            for i, sock in socks.items():
                does = self._does(name, i)
                if any(e["id"] == i and e.get("listens") is False for e in listed):
                    does = {"refuse": True}
                number[i, port] = sock.getsockname()[1]
                self.echoes.append(Echo(self._loop, name, i, sock, namespace=namespace, does=does))
        groups: dict[Any, list[Object]] = {}
        for entry in listed:
            served = tuple((p, number[entry["id"], p]) for p in ports if entry.get("port", p) == p)
            groups.setdefault((entry.get("slice", 1), entry.get("family", "IPv4"), served), []).append(entry)
        labels = {"labels": {"kubernetes.io/service-name": name}}
        return [
            _object(
                "discovery.k8s.io/v1", "EndpointSlice", f"{name}-{index}", namespace, metadata=labels,
                addressType=family,
                ports=[{"name": port, "protocol": "TCP", "port": value} for port, value in served],
                endpoints=[self._endpoint(entry, host[entry["id"]], namespace) for entry in entries],
            )
            for index, ((_, family, served), entries) in enumerate(groups.items())
        ]  # fmt: skip

    def _does(self, service: str, endpoint: str) -> Object:
        written = self.case.get("services", {}).get(service, {})
        return written.get(f"{endpoint} does", written.get("does", {}))

    @staticmethod
    def _endpoint(entry: Object, host: str, namespace: str) -> Object:
        conditions = {key: entry[key] for key in ("ready", "serving", "terminating") if key in entry}
        made: Object = {"addresses": [host], "conditions": conditions}
        if "zone" in entry:
            made["zone"] = entry["zone"]
        if "zones" in entry:
            made["hints"] = {"forZones": [{"name": zone} for zone in entry["zones"]]}
        if "pod" in entry:
            made["targetRef"] = {"kind": "Pod", "name": entry["pod"], "namespace": namespace}
        return made


_ASK = re.compile(r"(\S+) (https?)://([^/]*)(/.*|)")


def parse_ask(text: str) -> tuple[str, bool, str, str]:
    """ "GET https://host/target" as (method, over TLS?, host, target)."""
    match = _ASK.fullmatch(text)
    assert match, f"not METHOD scheme://host/target: {text!r}"
    method, scheme, host, target = match.groups()
    return method, scheme == "https", host, target
