"""One cluster and one installation for all tests in this folder, started when the first test asks.

Every test here carries the marker `kube` and runs in the network namespace that `make test-kube` makes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from stage.wire import ask

from kube import namespace
from kube.api import INGRESSES, NAMESPACES, Api
from kube.cluster import Cluster
from kube.installation import Installation
from kube.scenario import Scenario, new_namespace

_cluster = pytest.StashKey[Cluster]()
_installation = pytest.StashKey[Installation]()
_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them all; what stops the API server comes last."""
    ours = [item for item in items if _FOLDER in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.kube)
    items.sort(key=lambda item: "outage" in item.path.stem and _FOLDER in item.path.parents)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of the logs to the report of a failure."""
    report = yield
    if report.failed and (cluster := item.config.stash.get(_cluster, None)) is not None:
        report.sections.append(("control plane", cluster.logs()))
        if (installation := item.config.stash.get(_installation, None)) is not None:
            report.sections.append(("ingressd", installation.said()[-12000:]))
    return report


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A running cluster."""
    if not namespace.is_inside():
        pytest.fail("these tests need a network namespace of their own: make test-kube", pytrace=False)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    pytestconfig.stash[_cluster] = cluster
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Api:
    """The API server as its administrator."""
    return cluster.api


@pytest.fixture(scope="session")
def ingressd(cluster: Cluster, pytestconfig: pytest.Config) -> Installation:
    """Two replicas of ingressd from the shipped manifests, Ready."""
    installation = Installation(cluster)
    pytestconfig.stash[_installation] = installation
    # The conformance suite wants a Server field; ours is off unless asked for.
    installation.install(settings={"server-tokens": "true"})
    return installation


@pytest.fixture(scope="module")
def scenario(api: Api, ingressd: Installation) -> Iterator[Scenario]:
    """A scenario in a namespace of its own, for all tests of a feature. Afterwards its Ingress is gone everywhere."""
    scenario = Scenario(api, new_namespace(api), ingressd.wait_everywhere)
    yield scenario
    api.delete(INGRESSES, scenario.ingress, scenario.namespace)
    api.delete(NAMESPACES, scenario.namespace)
    ingressd.wait_everywhere(lambda address: ask(address, host="nobody").status == 404, "no more default backend")
