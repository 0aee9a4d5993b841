"""What is shipped, in every form that it is shipped in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deploy.rendered import Objects, base_files, helm, kustomize

EVERYTHING = {
    "admission": {"enabled": True, "certificate": "cert-manager"},
    "monitoring": {"enabled": True},
}

FORMS: dict[str, Callable[[], Objects]] = {
    "base": base_files,
    "deployment": kustomize,
    "daemonset": lambda: kustomize("overlays/daemonset"),
    "namespaced": lambda: kustomize("overlays/namespaced"),
    "full": lambda: kustomize("overlays/full"),
    "helm": helm,
    "helm-full": lambda: helm(EVERYTHING),
    "helm-daemonset": lambda: helm({"kind": "DaemonSet"}),
    "helm-namespaced": lambda: helm({"namespaces": ["default"]}),
}


@pytest.fixture(params=[pytest.param(name, marks=[] if name == "base" else pytest.mark.slow) for name in FORMS])
def objects(request: pytest.FixtureRequest) -> Objects:
    """The objects of one form. All but `base` need kustomize or Helm, which may have to be built first."""
    return FORMS[request.param]()
