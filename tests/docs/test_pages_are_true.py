"""Pages that repeat what the code says must repeat it exactly, and links must lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from ingressd.observe.metrics import Identity, Metrics, State
from ingressd.observe.totals import Totals
from ingressd.settings.load import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md") for page in ROOT.glob(pattern))


def test_the_page_of_settings_is_what_the_parser_says():
    spec = importlib.util.spec_from_file_location("write_settings", ROOT / "docs/write_settings.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    written = (ROOT / "docs/settings.md").read_text("utf-8")
    assert written == writer.page(), "run: python docs/write_settings.py"


def test_every_metric_is_on_the_page_of_metrics():
    metrics = Metrics(Totals(), State, Identity("class"))
    metrics.capture()
    exposed = metrics.expose("")[0].decode()
    families = re.findall(r"(?m)^# TYPE (\S+) \w+$", exposed)
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    page = page.replace(
        "`…_timestamp_seconds`", "`nginx_ingress_controller_config_last_reload_successful_timestamp_seconds`"
    )
    documented = set(re.findall(r"`((?:ingressd|nginx_ingress_controller)_\w+)", page))
    # prometheus-client adds *_created beside its own histograms.
    assert {name for name in families if not name.endswith("_created")} - documented == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [t for t in targets if not t.startswith("https://") and not (page.parent / t).exists()]
    assert missing == []


def test_every_decision_is_listed():
    listed = set(re.findall(r"\((\d{4}-[^)]+)\)", (ROOT / "docs/decisions/README.md").read_text("utf-8")))
    assert listed == {path.name for path in (ROOT / "docs/decisions").glob("[0-9]*.md")}


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_configurations_on_pages_are_taken(page, tmp_path):
    text = (ROOT / page).read_text("utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        file = tmp_path / "ingressd.yaml"
        file.write_text(block)
        assert isinstance(yaml.safe_load(block), dict)
        loaded = load_config(str(file), environ={}, flags={})
        assert [problem for problem in loaded.problems if problem.severity == "error"] == []


def test_the_example_configuration_is_taken():
    loaded = load_config(str(ROOT / "examples/ingressd.yaml"), environ={}, flags={})
    assert loaded.problems == ()
