"""The pods of ours that run besides this one, and the nodes under them."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from ingressd.control.objects.static import NodeAddress
from ingressd.control.sources.cluster.api import ApiError

T = TypeVar("T")

_TEMPLATE_LABELS: Final = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        # Of the node, which Kubernetes 1.35 copies to its pods (KEP-4742): pods of other zones are ours too.
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
"""Labels that tell pods of one workload apart; the others are what they have in common."""


class Api(Protocol):
    """What we need of `api.ApiServer`."""

    async def request(self, method: str, path: str, *, query: dict[str, str] = ..., timeout_s: float = 30.0) -> bytes:
        """The body of the answer. Raises ApiError."""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    labels: dict[str, str] = {}
    deletion_timestamp: str | None = None


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _PodStatus(msgspec.Struct):
    phase: str = ""
    conditions: list[_Condition] = []


class Pod(msgspec.Struct):
    """What we read of a Pod."""

    metadata: _Metadata
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    def is_ready(self) -> bool:
        """Running, and its readiness probe agrees."""
        ready = any(one.type == "Ready" and one.status == "True" for one in self.status.conditions)
        return self.status.phase == "Running" and ready and self.metadata.deletion_timestamp is None

    def stays(self) -> bool:
        """Neither finished nor about to end."""
        return self.status.phase not in ("Succeeded", "Failed") and self.metadata.deletion_timestamp is None


class _Pods(msgspec.Struct):
    items: list[Pod]


class _NodeAddress(msgspec.Struct):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct):
    addresses: list[_NodeAddress] = []


class _Node(msgspec.Struct):
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class OwnPods:
    """Pods with the labels of the pod `name`. Everything raises ApiError; without a name nothing can be known."""

    def __init__(self, api: Api, *, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = quote(namespace, safe="")
        self._name = name
        self._selector = ""

    async def all(self) -> list[Pod]:
        """Every one, this one included."""
        if not self._name:
            raise ApiError(0, "NoPod", "POD_NAME is not set")
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        if not self._selector:
            own = _decoded(await self._api.request("GET", f"{path}/{quote(self._name, safe='')}"), Pod)
            common = {key: value for key, value in own.metadata.labels.items() if key not in _TEMPLATE_LABELS}
            if not common:
                return [own]
            self._selector = ",".join(f"{key}={value}" for key, value in sorted(common.items()))
        return _decoded(await self._api.request("GET", path, query={"labelSelector": self._selector}), _Pods).items

    async def others_stay(self) -> bool:
        """Whether another pod of ours goes on running."""
        return any(pod.metadata.name != self._name and pod.stays() for pod in await self.all())

    async def nodes(self) -> tuple[NodeAddress, ...]:
        """The nodes under ready pods of ours, by name."""
        names = {pod.spec.node_name for pod in await self.all() if pod.is_ready() and pod.spec.node_name}
        return tuple([await self._node(name) for name in sorted(names)])

    async def _node(self, name: str) -> NodeAddress:
        found = _decoded(await self._api.request("GET", f"/api/v1/nodes/{quote(name, safe='')}"), _Node)
        of_type = {
            kind: tuple(one.address for one in found.status.addresses if one.type == kind and one.address)
            for kind in ("ExternalIP", "InternalIP")
        }
        return NodeAddress(name, of_type["ExternalIP"], of_type["InternalIP"])


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ApiError(0, "NotUnderstood", f"the answer is no {kind.__name__.strip('_')}: {error}") from None
