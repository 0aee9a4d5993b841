"""The Pod Security Standard "restricted" as a function: what a Pod breaks.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, for Linux Pods.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
PROFILES = frozenset({"RuntimeDefault", "Localhost"})
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})


def violations(pod: Spec) -> list[str]:
    """What of the standard a Pod template breaks; nothing when it may run."""
    spec = pod["spec"]
    context = spec.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [f"sysctl {one['name']}" for one in context.get("sysctls", ()) if one["name"] not in SAFE_SYSCTLS]
    for volume in spec.get("volumes", ()):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            found.append(f"volume {volume['name']}: {sorted(kinds)}")
    found += _shared(context, "pod")
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(part, ()):
            found += _container(container, context)
    return found


def _shared(context: Spec, where: str) -> list[str]:
    """What is forbidden in a Pod's and in a container's securityContext alike."""
    found = []
    if context.get("runAsUser") == 0:
        found.append(f"{where}: runAsUser 0")
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        found.append(f"{where}: seccompProfile")
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        found.append(f"{where}: appArmorProfile")
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        found.append(f"{where}: seLinuxOptions")
    if context.get("windowsOptions", {}).get("hostProcess"):
        found.append(f"{where}: hostProcess")
    return found


def _container(container: Spec, pod: Spec) -> list[str]:
    name = container["name"]
    context = container.get("securityContext", {})
    found = _shared(context, name)
    if context.get("privileged"):
        found.append(f"{name}: privileged")
    if context.get("allowPrivilegeEscalation") is not False:
        found.append(f"{name}: allowPrivilegeEscalation")
    if context.get("procMount", "Default") != "Default":
        found.append(f"{name}: procMount")
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        found.append(f"{name}: capabilities not dropped")
    found += [f"{name}: capability {one}" for one in capabilities.get("add", ()) if one != "NET_BIND_SERVICE"]
    # A container's own word wins over its Pod's.
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        found.append(f"{name}: runAsNonRoot")
    if not ({"seccompProfile"} & (set(context) | set(pod))):
        found.append(f"{name}: no seccompProfile")
    found += [f"{name}: hostPort {port['hostPort']}" for port in container.get("ports", ()) if port.get("hostPort")]
    handlers = [container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe") if probe in container]
    handlers += container.get("lifecycle", {}).values()
    for handler in handlers:
        if any(handler.get(kind, {}).get("host") for kind in ("httpGet", "tcpSocket")):
            found.append(f"{name}: a probe or hook of another host")
    return found
