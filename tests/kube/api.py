"""A small blocking client of the API server, for tests. Not the product's: it must not share its mistakes."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import yaml
from stage.secure import HttpsConnection

Object = dict[str, Any]
T = TypeVar("T")

INGRESSES = "networking.k8s.io/v1/ingresses"
INGRESS_CLASSES = "networking.k8s.io/v1/ingressclasses"
SERVICES, PODS, SECRETS, NODES, EVENTS = "v1/services", "v1/pods", "v1/secrets", "v1/nodes", "v1/events"
NAMESPACES, CONFIG_MAPS, SERVICE_ACCOUNTS = "v1/namespaces", "v1/configmaps", "v1/serviceaccounts"
SLICES = "discovery.k8s.io/v1/endpointslices"
DEPLOYMENTS = "apps/v1/deployments"
WEBHOOKS = "admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
LEASES = "coordination.k8s.io/v1/leases"
"""Resources as group, version and plural."""


class RefusedError(Exception):
    """The API server said no. `status` is the HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.reason = ""
        message = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError):
            answer = json.loads(body)
            self.reason, message = answer.get("reason", ""), answer.get("message", message)
        super().__init__(f"{status} {self.reason}: {message}")


class LateError(AssertionError):
    """Something did not become so in time."""


def path_of(resource: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """The path of a collection, an object or a subresource; `resource` as in INGRESSES."""
    group_version, _, plural = resource.rpartition("/")
    root = "/apis/" if "/" in group_version else "/api/"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return root + group_version + scope + "/" + plural + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")


def tls_of(kubeconfig: Mapping[str, Any]) -> ssl.SSLContext:
    """A client's TLS options from a kubeconfig of ours."""
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as pair:
            for key in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[key]))
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


class Api:
    """The API server as the user of a kubeconfig. Each thread has a connection of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        content = json.loads(kubeconfig.read_text())
        self.kubeconfig = kubeconfig
        self.server = urlsplit(content["clusters"][0]["cluster"]["server"])
        self.tls = tls_of(content)
        self.token: str = content["users"][0]["user"].get("token", "")
        self._of_thread = threading.local()
        self._open: list[HttpsConnection] = []
        self._kinds: dict[str, Object] = {}

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._open:
            connection.close()

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, *, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Any:
        """One request: the decoded answer. Raises RefusedError, OSError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "kube-stage"}
        headers |= self._authorization()
        target = path + ("?" + urlencode(query) if query else "")
        status, answer = self._exchange(method, target, data, headers)
        if status >= 400:
            raise RefusedError(status, answer)
        return json.loads(answer) if answer[:1] in (b"{", b"[") else answer.decode()

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _exchange(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = getattr(self._of_thread, "connection", None)
        for last in (False, True):
            if connection is None:
                connection = self._of_thread.connection = HttpsConnection(
                    self.server.hostname or "", self.server.port, context=self.tls
                )
                self._open.append(connection)
            try:
                connection.request(method, target, data, headers)
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                connection.close()  # The server may have closed it while it was idle: once more on a new one.
                connection = self._of_thread.connection = None
                if last:
                    raise
        raise AssertionError

    # --- objects ------------------------------------------------------------------------------------------------------

    def get(self, resource: str, name: str, namespace: str = "") -> Object:
        """One object."""
        answer: Object = self.request("GET", path_of(resource, namespace, name))
        return answer

    def find(self, resource: str, name: str, namespace: str = "") -> Object | None:
        """One object, None when there is none."""
        try:
            return self.get(resource, name, namespace)
        except RefusedError as refused:
            if refused.status == 404:
                return None
            raise

    def items(self, resource: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """All objects of a resource, of one namespace if given."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {name: value for name, value in selectors.items() if value}
        items: list[Object] = self.request("GET", path_of(resource, namespace), **query)["items"]
        return items

    def patch(self, resource: str, name: str, namespace: str = "", *, sub: str = "", change: Any) -> Object:
        """Merge `change` into an object (RFC 7396): None deletes a key."""
        path = path_of(resource, namespace, name, sub)
        answer: Object = self.request("PATCH", path, body=change, content_type="application/merge-patch+json")
        return answer

    def delete(self, resource: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> None:
        """Delete an object, and what it owns in the background. Nothing when it is not there."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            self.request("DELETE", path_of(resource, namespace, name), body=options)
        except RefusedError as refused:
            if refused.status != 404:
                raise

    def create(self, manifest: Object | str, namespace: str = "", **query: str) -> Object:
        """Create an object (a mapping, or YAML of one)."""
        body = yaml.safe_load(manifest) if isinstance(manifest, str) else manifest
        answer: Object = self.request("POST", self._path_for(body, namespace), body=body, **query)
        return answer

    def apply(self, manifests: Object | str, namespace: str = "", **query: str) -> None:
        """Server-side apply of one object or of YAML with several documents."""
        documents = yaml.safe_load_all(manifests) if isinstance(manifests, str) else [manifests]
        for body in documents:
            if body:
                path = self._path_for(body, namespace) + "/" + body["metadata"]["name"]
                how = {"fieldManager": "stage", "force": "true", **query}
                self.request("PATCH", path, body=body, content_type="application/apply-patch+yaml", **how)

    def _path_for(self, body: Object, namespace: str) -> str:
        version, kind = body["apiVersion"], body["kind"]
        if f"{version}/{kind}" not in self._kinds:
            root = "/apis/" if "/" in version else "/api/"
            for known in self.request("GET", root + version)["resources"]:
                if "/" not in known["name"]:
                    self._kinds[f"{version}/{known['kind']}"] = known
        known = self._kinds[f"{version}/{kind}"]
        where = body["metadata"].get("namespace") or namespace or "default"
        return path_of(f"{version}/{known['name']}", where if known["namespaced"] else "")

    def events_since(self, version: str, resource: str, namespace: str) -> list[Object]:
        """What has happened to objects since a resourceVersion, as a watch from there tells."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "1"}
        target = path_of(resource, namespace) + "?" + urlencode(query)
        status, answer = self._exchange("GET", target, None, {"Accept": "application/json", **self._authorization()})
        assert status == 200, answer
        return [json.loads(line) for line in answer.splitlines()]

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], T], what: str, *, within_s: float = 60.0) -> T:
        """Ask until the answer is true; that answer. Refusals and a server that is away count as not yet."""
        until, last = time.monotonic() + within_s, ""
        while True:
            try:
                if answer := condition():
                    return answer
            except (RefusedError, OSError, http.client.HTTPException, LookupError) as failure:
                last = f"; last: {failure!r}"
            if time.monotonic() > until:
                raise LateError(f"{what}: not within {within_s:g} s{last}")
            time.sleep(0.05)

    def wait_ready_pods(self, namespace: str, labels: str, count: int, *, within_s: float = 60.0) -> list[Object]:
        """Wait until exactly `count` pods, none of them terminating, are Ready; those pods."""

        def ready() -> list[Object] | None:
            pods = [pod for pod in self.items(PODS, namespace, labels=labels) if is_ready(pod)]
            return pods if len(pods) == count else None

        found = self.wait(ready, f"{count} ready pods of {labels} in {namespace}", within_s=within_s)
        assert found is not None
        return found

    def wait_endpoints(self, namespace: str, service: str, count: int, *, within_s: float = 60.0) -> None:
        """Wait until a Service has exactly `count` ready IPv4 endpoints."""

        def counted() -> bool:
            slices = self.items(SLICES, namespace, labels=f"kubernetes.io/service-name={service}")
            endpoints = [one for part in slices if part["addressType"] == "IPv4" for one in part["endpoints"] or ()]
            return sum(bool(one["conditions"].get("ready")) for one in endpoints) == count

        self.wait(counted, f"{count} ready endpoints of {namespace}/{service}", within_s=within_s)


def is_ready(pod: Object) -> bool:
    """Is a pod Ready and not on its way out?"""
    conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")
