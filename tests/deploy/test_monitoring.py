"""The Grafana board asks for metrics that exist, and the ServiceMonitor finds the Service."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest
from deploy.conftest import EVERYTHING
from deploy.rendered import CHART, DEPLOY, ROOT, Key, helm, kustomize

BOARD = json.loads((CHART / "dashboards/ingressd.json").read_text())
METRIC = re.compile(r"\b((?:ingressd|nginx_ingress_controller)_\w+)")
HISTOGRAM = re.compile(r"_(?:bucket|sum|count)\Z")


def panels():
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def documented() -> set[str]:
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    names = set(re.findall(r"`((?:ingressd|nginx_ingress_controller)_\w+)", page))
    histograms = {name for line in page.splitlines() if "histogram" in line for name in METRIC.findall(line)}
    return names | {name + part for name in histograms for part in ("_bucket", "_sum", "_count")}


def asked() -> set[str]:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    expressions += [str(variable["query"]) for variable in BOARD["templating"]["list"]]
    return {name for expression in expressions for name in METRIC.findall(expression)}


def test_the_board_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("write_board", DEPLOY / "write_board.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    assert writer.BOARD.read_text("utf-8") == writer.board(), "run: python deploy/write_board.py"


def test_every_metric_of_the_board_is_documented():
    assert asked() - documented() == set()


def test_the_board_shows_what_is_worth_an_alert():
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    alerts = set(METRIC.findall(page[page.index("## Worth an alert") :]))
    missing = {HISTOGRAM.sub("", name) for name in alerts} - {HISTOGRAM.sub("", name) for name in asked()}
    assert missing == set(), "give them a panel in deploy/write_board.py, and run it"


def test_panels_do_not_overlap():
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["overlays/full", "helm"])
def test_the_monitor_finds_its_service_and_the_sidecar_its_board(form):
    objects = helm(EVERYTHING) if form == "helm" else kustomize(form)
    monitor = objects[Key("ServiceMonitor", "ingressd", "ingressd")]["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    found = [body for key, body in objects.items() if key.kind == "Service" and wanted <= labels(body).items()]
    assert [body["metadata"]["name"] for body in found] == ["ingressd-metrics"]
    assert [port["name"] for port in found[0]["spec"]["ports"]] == [monitor["endpoints"][0]["port"]]
    board = objects[Key("ConfigMap", "ingressd", "ingressd-dashboards")]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["ingressd.json"]) == BOARD


def labels(body):
    return body["metadata"].get("labels", {})
