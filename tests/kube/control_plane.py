"""etcd, kube-apiserver and kube-controller-manager: real ones, configured as kubeadm does where it matters."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import ssl
from pathlib import Path
from typing import Any

from stage.secure import HttpsConnection

from kube import addresses, build, pki
from kube.api import Api
from kube.program import Program

SERVER = f"https://{addresses.API_SERVER}:{addresses.API_PORT}"
TOKEN_ISSUER = "https://kubernetes.default.svc.cluster.local"

CONTROLLERS = (
    "endpointslice-controller",
    "endpoints-controller",
    "endpointslice-mirroring-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "deployment-controller",
    "replicaset-controller",
    "daemonset-controller",
    "job-controller",
    "disruption-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
)

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # With what was answered, so that a test can tell a Secret's content from its metadata.
        {"level": "RequestResponse", "users": [], "userGroups": ["system:serviceaccounts"], "resources": [
            {"group": "", "resources": ["secrets", "configmaps"]}
        ]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}  # fmt: skip


class ControlPlane:
    """The three programs in one folder, on the addresses of `addresses`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = pki.Authority.new("kubernetes")
        self.audit_log = folder / "audit.log"
        self._write_files()
        admin = self.authority.issue("kubernetes-admin", organization="system:masters")
        self.admin_kubeconfig = folder / "admin.kubeconfig"
        self.admin_kubeconfig.write_text(pki.kubeconfig(SERVER, self.authority.pem, client=admin))
        self.admin_kubeconfig.chmod(0o600)
        self.etcd = Program("etcd", self._etcd_command(), folder)
        self.api_server = Program("kube-apiserver", self._api_server_command(), folder)
        self.controllers = Program("kube-controller-manager", self._controllers_command(), folder)
        self.admin = Api(self.admin_kubeconfig)

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all three and wait until the API server is ready."""
        self.etcd.start()
        self.api_server.start()
        self.wait_ready(within_s=60)
        self.controllers.start()

    def stop(self) -> None:
        """End all three."""
        self.admin.close()
        for program in (self.controllers, self.api_server, self.etcd):
            program.stop(signal.SIGKILL)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def restart_api_server(self) -> None:
        """Kill the API server and wait until a new one is ready."""
        self.api_server.stop(signal.SIGKILL)
        self.api_server.start()
        self.wait_ready(within_s=60)

    def wait_ready(self, *, within_s: float) -> None:
        """Wait until /readyz says so."""
        self.api_server.wait_until(self._is_ready, within_s=within_s)

    def _is_ready(self) -> bool:
        connection = HttpsConnection(addresses.API_SERVER, addresses.API_PORT, context=self.admin.tls, timeout_s=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, ssl.SSLError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def audited(self) -> list[dict[str, Any]]:
        """What service accounts asked about objects so far: audit events (audit.k8s.io/v1), oldest first."""
        if not self.audit_log.exists():
            return []
        whole = self.audit_log.read_text().rpartition("\n")[0]
        events = [json.loads(line) for line in whole.splitlines()]
        return [event for event in events if "objectRef" in event]

    # --- configuration ------------------------------------------------------------------------------------------------

    def _write_files(self) -> None:
        files = {
            "ca.crt": self.authority.pem,
            "ca.key": pki.key_pem(self.authority.key),
            "tokens.key": (key := pki.new_key()),
            "tokens.pub": pki.public_of(key),
            "audit-policy.yaml": json.dumps(_AUDIT_POLICY).encode(),
        }
        services = (addresses.SERVICES[0].replace("0.0/16", "0.1"), addresses.SERVICES[1].replace("::/112", "::1"))
        serving = self.authority.issue(
            "kube-apiserver",
            dns=("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
            addresses=("127.0.0.1", addresses.API_SERVER, *services),
        )
        files |= {"serving.crt": serving.cert, "serving.key": serving.key}
        for name, content in files.items():
            path = self.folder / name
            path.touch(0o600)
            path.write_bytes(content)
        (self.folder / "etcd").mkdir(mode=0o700)

    def _etcd_command(self) -> list[str]:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        return [
            str(build.binary("etcd")),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ]

    def _api_server_command(self) -> list[str]:
        file = {path.name: str(path) for path in self.folder.iterdir()}
        return [
            str(build.binary("kube-apiserver")),
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            f"--advertise-address={addresses.API_SERVER}",
            f"--secure-port={addresses.API_PORT}",
            f"--service-cluster-ip-range={','.join(addresses.SERVICES)}",
            f"--tls-cert-file={file['serving.crt']}",
            f"--tls-private-key-file={file['serving.key']}",
            f"--client-ca-file={file['ca.crt']}",
            f"--service-account-issuer={TOKEN_ISSUER}",
            f"--service-account-key-file={file['tokens.pub']}",
            f"--service-account-signing-key-file={file['tokens.key']}",
            "--authorization-mode=RBAC",
            f"--audit-policy-file={file['audit-policy.yaml']}",
            f"--audit-log-path={self.audit_log}",
            "--anonymous-auth=false",
            "--profiling=false",
        ]

    def _controllers_command(self) -> list[str]:
        user = self.authority.issue("system:kube-controller-manager", organization="system:masters")
        kubeconfig = self.folder / "controllers.kubeconfig"
        kubeconfig.touch(0o600)
        kubeconfig.write_text(pki.kubeconfig(SERVER, self.authority.pem, client=user))
        return [
            str(build.binary("kube-controller-manager")),
            f"--kubeconfig={kubeconfig}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            f"--service-account-private-key-file={self.folder / 'tokens.key'}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--cluster-cidr={','.join(addresses.PODS)}",
            f"--service-cluster-ip-range={','.join(addresses.SERVICES)}",
            "--allocate-node-cidrs=false",
            "--leader-elect=false",
            "--secure-port=0",
            "--concurrent-deployment-syncs=5",
            "--namespace-sync-period=1m",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]
