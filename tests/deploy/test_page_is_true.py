"""What docs/deploy.md tells people to write works, and the numbers it gives are those that are shipped."""

from __future__ import annotations

import re

import pytest
import yaml
from deploy.rendered import ROOT, Key, base_files, by_key, config_of, container_of, kustomize_text, pod_of

PAGE = (ROOT / "docs/deploy.md").read_text("utf-8")


@pytest.mark.slow
def test_the_kustomization_of_ones_own_is_taken(tmp_path):
    (tmp_path / "ingressd").symlink_to(ROOT)
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    objects = by_key(kustomize_text(yaml.safe_load(block), tmp_path))
    assert container_of(objects)["image"] == "registry.example.com/ingressd:0.1.0"
    assert Key("ServiceMonitor", "ingressd", "ingressd") in objects
    assert objects[Key("Service", "ingressd", "ingressd")]["metadata"]["annotations"]


@pytest.mark.slow
def test_a_configuration_of_ones_own_replaces_the_shipped_one(tmp_path):
    (tmp_path / "ingressd").symlink_to(ROOT)
    (tmp_path / "ingressd.yaml").write_text("workers: 7\n")
    (generator,) = re.findall(r"`(configMapGenerator: .*?)`", PAGE, re.DOTALL)
    kustomization = {"resources": ["ingressd/deploy"], **yaml.safe_load(generator)}
    objects = by_key(kustomize_text(kustomization, tmp_path))
    assert config_of(objects) == "workers: 7\n"
    mounted = [volume["configMap"]["name"] for volume in pod_of(objects)["spec"]["volumes"] if "configMap" in volume]
    assert mounted == ["ingressd"]


def test_the_table_of_the_drain_has_the_shipped_seconds():
    config = yaml.safe_load(config_of(base_files()))
    shipped = {
        "preStop sleep": container_of(base_files())["lifecycle"]["preStop"]["sleep"]["seconds"],
        "`shutdown-grace-period`": int(config["flags"]["shutdown-grace-period"]),
        "`worker-shutdown-timeout`": int(config["settings"]["worker-shutdown-timeout"].removesuffix("s")),
        "`terminationGracePeriodSeconds`": pod_of(base_files())["spec"]["terminationGracePeriodSeconds"],
    }
    told = {name: int(seconds) for name, seconds in re.findall(r"^\| (.+?) \| (\d+)", PAGE, re.MULTILINE)}
    assert shipped.items() <= told.items()


def test_every_overlay_and_component_is_on_the_page():
    folders = {
        f"{part}/{path.name}" for part in ("overlays", "components") for path in (ROOT / "deploy" / part).iterdir()
    }
    assert {folder for folder in folders if folder not in PAGE} == {"components/labels"}
