"""ingressd in the cluster as `kubectl apply -k deploy/` installs it, waiting less and serving tests."""

from __future__ import annotations

import base64
import copy
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from stage.ports import Address

from kube import build
from kube.api import CONFIG_MAPS, DEPLOYMENTS, PODS, SERVICES, WEBHOOKS, Object, is_ready, path_of
from kube.cluster import Cluster
from kube.pki import Authority
from kube.process_pod import ProcessRunner

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMESPACE = NAME = "ingressd"
LABELS = "app.kubernetes.io/name=ingressd"
HTTP_PORT, HTTPS_PORT, ADMIN_PORT = 8080, 8443, 10254
"""Where a pod listens; the Service has 80 and 443."""

SOONER: Mapping[str, Any] = {
    "flags": {"shutdown-grace-period": "1", "election-ttl": "6s", "status-update-interval": "1"},
    "settings": {"worker-shutdown-timeout": "5s"},
}
"""What the shipped configuration leaves to people's patience."""


def render(folder: str) -> list[Object]:
    """The objects of a kustomization below deploy/."""
    command = [str(build.binary("kubectl")), "kustomize", str(DEPLOY / folder)]
    text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [one for one in yaml.safe_load_all(text) if one]


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` over it, key by key; None takes a key away."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


ADMISSION_SECRET, ADMISSION_NAME = "ingressd-admission", "ingressd-admission.ingressd.svc"


class Installation:
    """The shipped Deployment with RBAC, Service, IngressClass and admission webhook. One can be in a cluster.

    Left out are kinds that others bring to a cluster; what cert-manager would do for the webhook, we do.
    """

    def __init__(self, cluster: Cluster, *, folder: str = "overlays/full", replicas: int = 2) -> None:
        self.cluster, self.api = cluster, cluster.api
        self.replicas = replicas
        foreign = ("monitoring.coreos.com/", "cert-manager.io/")
        self.objects = [one for one in render(folder) if not one["apiVersion"].startswith(foreign)]
        self._authority = Authority.new("admission")
        self.shipped: dict[str, Any] = {}
        self.config: dict[str, Any] = {}

    def install(self, **config: Any) -> None:
        """Apply everything, with `config` merged over the shipped configuration; returns when all pods are Ready."""
        for manifest in sorted(self.objects, key=lambda one: one["kind"] != "Namespace"):
            if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == NAME:
                self.shipped = yaml.safe_load(manifest["data"]["ingressd.yaml"])
                self.config = merged(merged(self.shipped, SOONER), config)
                manifest["data"]["ingressd.yaml"] = _written(self.config)
            elif manifest["kind"] == "ValidatingWebhookConfiguration":
                self._issue_admission_certificate()
                manifest["webhooks"][0]["clientConfig"]["caBundle"] = _base64(self._authority.pem)
            elif manifest["kind"] == "Deployment":
                manifest["spec"] |= {"replicas": self.replicas, "minReadySeconds": 0}
                container = manifest["spec"]["template"]["spec"]["containers"][0]
                container["lifecycle"]["preStop"]["sleep"]["seconds"] = 1
            self.api.apply(manifest)
        self.wait_ready()
        self.api.wait(lambda: self.addresses, "addresses of the load balancer")

    def _issue_admission_certificate(self) -> None:
        """The Secret that cert-manager would make."""
        pair = self._authority.issue(ADMISSION_NAME, dns=(ADMISSION_NAME,))
        data = {"tls.crt": _base64(pair.cert), "tls.key": _base64(pair.key)}
        metadata = {"name": ADMISSION_SECRET, "namespace": NAMESPACE}
        self.api.apply(
            {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data}
        )

    def wait_ready(self, *, within_s: float = 60.0) -> None:
        """Wait until every replica, and no other, is Ready."""

        def rolled() -> bool:
            deployment = self.api.get(DEPLOYMENTS, NAME, NAMESPACE)
            if deployment["status"].get("observedGeneration") != deployment["metadata"]["generation"]:
                return False
            return deployment["status"].get("updatedReplicas") == self.replicas and len(self.pods()) == self.replicas

        self.api.wait(rolled, "the rollout of ingressd", within_s=within_s)
        self.api.wait_ready_pods(NAMESPACE, LABELS, self.replicas, within_s=within_s)
        self.api.wait_endpoints(NAMESPACE, NAME, self.replicas)

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """The load balancer's addresses, IPv4 first."""
        status = self.api.get(SERVICES, NAME, NAMESPACE)["status"]["loadBalancer"]
        return [one["ip"] for one in status.get("ingress", ())]

    @property
    def address(self) -> str:
        """The load balancer's IPv4 address."""
        return self.addresses[0]

    def pods(self) -> list[Object]:
        """Its pods that are not on their way out, the oldest first."""
        pods = self.api.items(PODS, NAMESPACE, labels=LABELS)
        alive = [one for one in pods if not one["metadata"].get("deletionTimestamp")]
        return sorted(alive, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))

    def ready_pods(self) -> list[Object]:
        """Those of them that are Ready."""
        return [one for one in self.pods() if is_ready(one)]

    def runner(self, pod: Object | str) -> ProcessRunner:
        """The container of a pod."""
        name = pod if isinstance(pod, str) else pod["metadata"]["name"]
        runner = self.cluster.kubelet.runner(NAMESPACE, name)
        assert isinstance(runner, ProcessRunner)
        return runner

    def runners(self) -> Iterator[ProcessRunner]:
        """The containers of all pods."""
        for pod in self.pods():
            yield self.runner(pod)

    def runners_now(self) -> list[ProcessRunner]:
        """The containers that run, without asking the API server."""
        found = self.cluster.kubelet.running(NAMESPACE)
        return [runner for runner in found if isinstance(runner, ProcessRunner)]

    def wait_everywhere(self, condition: Callable[[Address], bool], what: str, *, within_s: float = 30.0) -> None:
        """Wait until a condition holds of the HTTP address of every replica."""
        addresses = [(runner.pair[0], HTTP_PORT) for runner in self.runners()]
        self.api.wait(lambda: all(condition(address) for address in addresses), what, within_s=within_s)

    def output(self) -> str:
        """Everything that all pods ever printed."""
        logs = sorted(self.cluster.folder.glob(f"pods/{NAMESPACE}_*/container.log"))
        return "".join(f"--- {log.parent.name}\n{log.read_text('utf-8', 'replace')}" for log in logs)

    def said(self) -> str:
        """The same without the access log."""
        return "\n".join(line for line in self.output().splitlines() if '"request_id"' not in line)

    # --- changing it --------------------------------------------------------------------------------------------------

    def configure(self, **changes: Any) -> None:
        """Merge changes into the configuration and bring it to the pods, as a kubelet does within a minute."""
        self.config = merged(self.config, changes)
        self.api.patch(CONFIG_MAPS, NAME, NAMESPACE, change={"data": {"ingressd.yaml": _written(self.config)}})
        for runner in self.runners():
            self.cluster.do(runner.refresh_volumes())

    def rotate_admission_certificate(self) -> None:
        """A new authority, a new certificate: in the Secret, in the pods, in the webhook's configuration."""
        self._authority = Authority.new("admission")
        self._issue_admission_certificate()
        for runner in self.runners():
            self.cluster.do(runner.refresh_volumes())
        self.change_webhook("/clientConfig/caBundle", _base64(self._authority.pem))

    def change_webhook(self, field: str, value: str) -> None:
        """Replace a field of the ValidatingWebhookConfiguration, by its JSON pointer below the webhook."""
        change = [{"op": "replace", "path": f"/webhooks/0{field}", "value": value}]
        path = path_of(WEBHOOKS, name=NAME)
        self.api.request("PATCH", path, body=change, content_type="application/json-patch+json")

    def restart(self) -> None:
        """`kubectl rollout restart`."""
        stamp = str(self.api.get(DEPLOYMENTS, NAME, NAMESPACE)["metadata"]["generation"])
        template = {"metadata": {"annotations": {"stage/restarted": stamp}}}
        self.api.patch(DEPLOYMENTS, NAME, NAMESPACE, change={"spec": {"template": template}})
        self.wait_ready(within_s=90)

    def scale(self, replicas: int) -> None:
        """Change the number of replicas and wait until they are there."""
        self.replicas = replicas
        self.api.patch(DEPLOYMENTS, NAME, NAMESPACE, change={"spec": {"replicas": replicas}})
        self.wait_ready()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _written(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, width=1000)
