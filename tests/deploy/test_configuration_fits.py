"""The configuration that is mounted is one that ingressd takes, and a Pod is given the time that its drain takes."""

from __future__ import annotations

from deploy.rendered import config_of, container_of, environment_of, pod_of

from ingressd.settings.config import Config
from ingressd.settings.configmap import parse_settings
from ingressd.settings.flags import parse_flags
from ingressd.settings.load import load_config
from ingressd.supervise.drain import OVERTIME_S, STOP_S


def configuration(objects, folder) -> Config:
    """What ingressd makes of the mounted file and of the container's variables. Nothing may be wrong with them."""
    file = folder / "ingressd.yaml"
    file.write_text(config_of(objects))
    loaded = load_config(str(file), environ={"INGRESSD_ZONE": "", **environment_of(objects)}, flags={})
    assert loaded.problems == ()
    assert loaded.config is not None
    assert parse_flags(loaded.config.flags)[1] == ()
    assert parse_settings(loaded.config.settings).problems == ()
    return loaded.config


def test_a_drain_is_never_cut_short(objects, tmp_path):
    config = configuration(objects, tmp_path)
    flags, _ = parse_flags(config.flags)
    grace_s = flags.shutdown_grace_period_s or 0.0
    timeout_s = parse_settings(config.settings).process["worker_shutdown_timeout_s"]
    hook_s = container_of(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace_s >= 30, "a load balancer's health checks take so long to notice"
    whole_s = hook_s + grace_s + timeout_s + OVERTIME_S + STOP_S
    assert whole_s < pod_of(objects)["spec"]["terminationGracePeriodSeconds"]


def test_the_container_serves_the_ports_that_the_configuration_binds(objects, tmp_path):
    config = configuration(objects, tmp_path)
    ports = {port["name"]: port["containerPort"] for port in container_of(objects)["ports"]}
    bound = {listener.name: (listener.host, listener.port) for listener in config.listeners}
    bound["admin"] = (config.admin.host, config.admin.port)
    if config.admission is not None:
        bound["admission"] = (config.admission.host, config.admission.port)
    assert bound == {name: ("::", port) for name, port in ports.items()}


def test_services_lead_to_ports_of_the_container(objects):
    names = {port["name"] for port in container_of(objects)["ports"]}
    services = [body["spec"] for key, body in objects.items() if key.kind == "Service"]
    assert services
    for spec in services:
        assert {port["targetPort"] for port in spec["ports"]} <= names
        assert spec["selector"].items() <= pod_of(objects)["metadata"]["labels"].items()
        assert spec["ipFamilyPolicy"] == "PreferDualStack"


def test_the_service_keeps_the_clients_address(objects):
    (spec,) = (body["spec"] for body in objects.values() if body["kind"] == "Service" and "type" in body["spec"])
    assert (spec["type"], spec["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert [port["port"] for port in spec["ports"]] == [80, 443]


def test_the_snapshot_goes_where_the_memory_is_mounted(objects, tmp_path):
    config = configuration(objects, tmp_path)
    assert config.kubernetes is not None
    assert config.kubernetes.in_cluster
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(objects)["volumeMounts"]}
    assert config.kubernetes.snapshot_dir == mounts["snapshot"]


def test_probes_ask_what_they_are_about(objects):
    container = container_of(objects)
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    assert {container[f"{name}Probe"]["httpGet"]["port"] for name in paths} == {"admin"}


def test_the_class_is_ours(objects, tmp_path):
    config = configuration(objects, tmp_path)
    (found,) = (body for key, body in objects.items() if key.kind == "IngressClass")
    assert (found["metadata"]["name"], found["spec"]["controller"]) == (
        config.ingress_class.name,
        config.ingress_class.controller,
    )
    assert "annotations" not in found["metadata"], "being the default class is for the cluster's owner to say"
