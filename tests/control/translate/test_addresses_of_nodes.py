"""Addresses of our nodes, when no flag names any: external ones, else internal, in every family."""

from control.translate.world import CLASS, World

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.static import Flags, NodeAddress, NodeAddresses, StaticListener

NODES = ObjectKey("NodeAddresses", "", "nodes")
FLAGS = ObjectKey("Flags", "", "flags")
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: default}
spec:
  ingressClassName: ingressd
  defaultBackend: {service: {name: a, port: {number: 80}}}
"""
WEB = ObjectKey("Ingress", "default", "web")
TWO = NodeAddresses(
    (
        NodeAddress("a", external=("192.0.2.1", "2001:db8::1"), internal=("10.0.0.1",)),
        NodeAddress("b", internal=("10.0.0.2", "fd00::2")),
    )
)


def addresses(translation):
    return [entry["ip"] for entry in translation.statuses[WEB]["loadBalancer"].get("ingress", ())]


def test_external_addresses_and_internal_ones_where_there_is_no_other():
    translation = World().put(CLASS, INGRESS, static={NODES: TWO})
    assert addresses(translation) == ["192.0.2.1", "2001:db8::1", "10.0.0.2", "fd00::2"]


def test_internal_addresses_by_flag():
    flags = Flags({"report-node-internal-ip-address": "true"})
    translation = World().put(CLASS, INGRESS, static={NODES: TWO, FLAGS: flags})
    assert addresses(translation) == ["10.0.0.1", "10.0.0.2", "fd00::2"]


def test_nodes_do_not_count_beside_an_address():
    translation = World().put(
        CLASS, INGRESS, static={NODES: TWO, FLAGS: Flags({"publish-status-address": "192.0.2.9"})}
    )
    assert addresses(translation) == ["192.0.2.9"]


def test_as_long_as_no_pod_of_ours_is_ready_nobody_knows():
    world = World()
    for nodes in (None, ()):
        assert world.put(CLASS, INGRESS, static={NODES: NodeAddresses(nodes)}).statuses[WEB] == {}


def test_a_node_that_comes_reaches_every_object_and_changes_no_unit():
    world = World()
    world.put(CLASS, INGRESS, static={NODES: NodeAddresses((TWO.nodes[0],))})
    translation = world.put(static={NODES: TWO})
    assert translation.told == {WEB}
    assert addresses(translation)[-1] == "fd00::2"
    assert (translation.changed, translation.removed) == ({}, ())


def test_a_new_listener_is_a_new_port():
    world = World()
    world.put(CLASS, INGRESS, static={NODES: NodeAddresses((TWO.nodes[1],))})
    listener = ObjectKey("StaticListener", "", "http"), StaticListener("http", "::", 80, "HTTP")
    translation = world.put(static=dict([listener]))
    assert translation.statuses[WEB]["loadBalancer"]["ingress"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
