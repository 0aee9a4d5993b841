"""Every Pod runs under the Pod Security Standard "restricted", with a read-only root and no capability at all."""

from __future__ import annotations

import copy

import pytest
from deploy.pod_security import violations
from deploy.rendered import Key, base_files, container_of, pod_of


def test_nothing_of_the_standard_is_broken(objects):
    assert violations(pod_of(objects)) == []


def test_the_namespace_enforces_it():
    labels = base_files()[Key("Namespace", "", "ingressd")]["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


def test_more_than_the_standard_asks(objects):
    context = container_of(objects)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    spec = pod_of(objects)["spec"]
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (65532, 65532)
    assert all(port["containerPort"] >= 1024 for port in container_of(objects)["ports"])


def test_the_token_is_mounted_by_the_pod_and_by_no_accident(objects):
    accounts = [body for key, body in objects.items() if key.kind == "ServiceAccount"]
    assert [account["automountServiceAccountToken"] for account in accounts] == [False]
    assert pod_of(objects)["spec"]["automountServiceAccountToken"] is True
    assert pod_of(objects)["spec"]["enableServiceLinks"] is False


def test_what_may_be_written_is_memory_and_bounded(objects):
    writable = {mount["name"] for mount in container_of(objects)["volumeMounts"] if not mount.get("readOnly")}
    volumes = {volume["name"]: volume for volume in pod_of(objects)["spec"]["volumes"]}
    assert writable == {"snapshot"}
    assert volumes["snapshot"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}


def test_resources_are_requested_and_limited(objects):
    resources = container_of(objects)["resources"]
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}


BREAKING = {
    "hostNetwork": lambda pod, container: pod["spec"].update(hostNetwork=True),
    "hostPID": lambda pod, container: pod["spec"].update(hostPID=True),
    "hostPath": lambda pod, container: pod["spec"]["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "sysctl": lambda pod, container: pod["spec"]["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]),
    "root by number": lambda pod, container: container["securityContext"].update(runAsUser=0),
    "root allowed": lambda pod, container: container["securityContext"].update(runAsNonRoot=False),
    "root not excluded": lambda pod, container: pod["spec"]["securityContext"].pop("runAsNonRoot"),
    "no seccomp": lambda pod, container: pod["spec"]["securityContext"].pop("seccompProfile"),
    "unconfined": lambda pod, container: container["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    "AppArmor off": lambda pod, container: container["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
    "SELinux": lambda pod, container: container["securityContext"].update(seLinuxOptions={"type": "spc_t"}),
    "privileged": lambda pod, container: container["securityContext"].update(privileged=True),
    "escalation unsaid": lambda pod, container: container["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities kept": lambda pod, container: container["securityContext"].pop("capabilities"),
    "capability": lambda pod, container: container["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "procMount": lambda pod, container: container["securityContext"].update(procMount="Unmasked"),
    "hostPort": lambda pod, container: container["ports"][0].update(hostPort=80),
    "probe of elsewhere": lambda pod, container: container["livenessProbe"]["httpGet"].update(host="10.0.0.1"),
    "init container": lambda pod, container: pod["spec"].update(initContainers=[{"name": "x"}]),
}


@pytest.mark.parametrize("breaking", BREAKING)
def test_the_judge_sees_what_breaks_the_standard(breaking):
    pod = copy.deepcopy(pod_of(base_files()))
    BREAKING[breaking](pod, pod["spec"]["containers"][0])
    assert violations(pod) != []
