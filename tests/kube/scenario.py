"""The steps that the scenarios of kubernetes-sigs/ingress-controller-conformance are made of, in our own words."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml
from stage.certificates import covers, names_of, selfsigned
from stage.ports import Address
from stage.wire import Reply, ask, client_tls

from kube.api import INGRESSES, Api, Object
from kube.installation import HTTPS_PORT

CLASS = "ingressd"
_number = itertools.count(1)
_REDIRECTS = (301, 302, 303, 307, 308)


def new_namespace(api: Api, prefix: str = "conformance") -> str:
    """A namespace nobody used before."""
    name = f"{prefix}-{next(_number)}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def new_tls_secret(api: Api, namespace: str, name: str, host: str) -> None:
    """A Secret with a self-signed certificate for a host."""
    pair = selfsigned(host)
    data = {"tls.crt": base64.b64encode(pair.cert).decode(), "tls.key": base64.b64encode(pair.key).decode()}
    metadata = {"name": name, "namespace": namespace}
    api.create({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data})


def new_backend(api: Api, namespace: str, service: str, *, port: Object | None = None, **options: Any) -> None:
    """An echo Deployment and its Service, ready. `port` as an Ingress names it.

    Options: ingress, replicas, annotations and environment of the pods.
    """
    replicas, ingress = options.pop("replicas", 1), options.pop("ingress", "")
    annotations, environment = options.pop("annotations", {}), options.pop("environment", {})
    assert not options, options
    labels = {"app": f"{ingress}-{service}".strip("-")}
    env = {"SERVICE_NAME": service, "INGRESS_NAME": ingress, **environment}
    container = {
        "name": "echo",
        "image": "echo",
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "ports": [{"name": "http", "containerPort": 3000}],
    }
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    api.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": labels["app"]}, "spec": spec}, namespace
    )
    ports: list[Object] = [{"port": (port or {}).get("number", 8080), "targetPort": 3000}]
    if port and "name" in port:
        ports[0]["name"] = port["name"]
    of_service = {"type": "NodePort", "selector": labels, "ports": ports}
    api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": of_service}, namespace)
    api.wait_endpoints(namespace, service, replicas)


def backends_of(ingress: Object) -> list[Object]:
    """Every backend Service that an Ingress names, each once."""
    spec = ingress["spec"]
    backends = [spec["defaultBackend"]] if "defaultBackend" in spec else []
    backends += [path["backend"] for rule in spec.get("rules", ()) for path in rule["http"]["paths"]]
    return list({one["service"]["name"]: one["service"] for one in backends}.values())


def places_of(ingress: Object) -> list[tuple[str, str]]:
    """Every host and path that an Ingress serves, for a request each."""
    spec = ingress["spec"]
    places = [("any.test", "/")] if "defaultBackend" in spec else []
    for rule in spec.get("rules", ()):
        host = rule.get("host", "any.test").replace("*", "any")
        places += [(host, path["path"]) for path in rule["http"]["paths"]]
    return places


def _plainly(address: Address, path: str, host: str) -> Reply:
    return ask(address, path, host=host)


def _over_tls(address: Address, path: str, host: str) -> Reply:
    return ask((address[0], HTTPS_PORT), path, host=host, server_name=host, tls=client_tls())


@dataclass
class Captured:
    """An answer, and the request as the echo saw it ({} when no echo answered)."""

    reply: Reply
    request: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The status code."""
        return self.reply.status

    @property
    def service(self) -> str:
        """The Service that answered."""
        return str(self.request.get("service", ""))


@dataclass
class Scenario:
    """An Ingress in a namespace of its own, its backends, and the address where it is exposed.

    `wait_everywhere` is that of the installation.
    """

    api: Api
    namespace: str
    wait_everywhere: Callable[[Callable[[Address], bool], str], None]
    ingress: str = ""
    address: str = ""
    _places: list[tuple[str, str]] = field(default_factory=list)
    _tls_hosts: list[str] = field(default_factory=list)

    def given_ingress(self, manifest: str) -> None:
        """Create its backends, wait for their endpoints, then create it, in our class if it names none."""
        ingress: Object = yaml.safe_load(manifest)
        self.ingress = ingress["metadata"]["name"]
        for service in backends_of(ingress):
            new_backend(self.api, self.namespace, service["name"], port=service["port"], ingress=self.ingress)
        ingress["spec"].setdefault("ingressClassName", CLASS)
        self._places = places_of(ingress)
        self._tls_hosts = [host for one in ingress["spec"].get("tls", ()) for host in one["hosts"]]
        self.api.create(ingress, self.namespace)

    def status_addresses(self) -> list[str]:
        """What the Ingress' status says."""
        status = self.api.get(INGRESSES, self.ingress, self.namespace).get("status", {})
        entries = status.get("loadBalancer", {}).get("ingress") or []
        return [entry.get("ip") or entry["hostname"] for entry in entries]

    def then_status_shows_address(self) -> None:
        """Wait until the status says where it is exposed; requests go there.

        The leader says so when its own workers serve it. Requests go to any replica: wait for the others too.
        """
        self.address = self.api.wait(self.status_addresses, f"an address of {self.namespace}/{self.ingress}")[0]
        for host in self._tls_hosts:
            self.wait_everywhere(
                lambda at, host=host: host in names_of(_over_tls(at, "/", host).certificate)[1],  # type: ignore[misc]
                f"the certificate of {host}",
            )
        for host, path in self._places:
            look = _over_tls if host in self._tls_hosts else _plainly  # Not at the redirect.
            self.wait_everywhere(
                lambda at, host=host, path=path, look=look: look(at, path, host).status not in (404, 503),  # type: ignore[misc]
                f"{host}{path} is live",
            )

    def send(self, method: str, url: str) -> Captured:
        """One request to the exposed address, following redirects there too, as a client without DNS would."""
        for _ in range(5):
            parts = urlsplit(url)
            secure = parts.scheme == "https"
            host = parts.netloc or self.address
            reply = ask(
                (self.address, 443 if secure else 80),
                parts.path or "/",
                host=host,
                method=method,
                tls=client_tls() if secure else None,
                server_name=parts.hostname or "",
                headers={"User-Agent": "Go-http-client/1.1"},
            )
            if reply.status not in _REDIRECTS:
                try:
                    return Captured(reply, json.loads(reply.body))
                except ValueError:
                    return Captured(reply)
            url = reply.one("location") or ""
        raise AssertionError("more than five redirects")


def verifies(captured: Captured, host: str) -> bool:
    """Does the certificate of a connection cover a host?"""
    return covers(names_of(captured.reply.certificate)[1], host)


def new_ingress(api: Api, namespace: str, name: str, *, host: str, service: str = "echo", **spec: Any) -> None:
    """Apply an Ingress of ours that sends a whole host to a Service; `spec` is merged over its spec."""
    backend = {"service": {"name": service, "port": {"number": 8080}}}
    rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    metadata = {"name": name, "annotations": spec.pop("annotations", {})}
    whole = {"ingressClassName": CLASS, "rules": [rule], **spec}
    api.apply({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": whole}, namespace)
