"""How a problem reads: object, field, file and line, each once, and nothing where nothing is known."""

import pytest

from ingressd.model.problem import Origin, Problem


@pytest.mark.parametrize(
    ("origin", "field", "file", "line", "spelled"),
    [
        (Origin("Config", "", "rutes"), "rutes", "c.yaml", 3, "c.yaml:3: error: Config rutes: m [R]"),
        (Origin("Config", "", "tls"), "tls[0].hosts", "", 0, "error: Config tls[0].hosts: m [R]"),
        (Origin("Config", "", ""), "", "c.yaml", 1, "c.yaml:1: error: Config: m [R]"),
        (Origin("Config", "", "settings"), "keep-alive", "", 0, "error: Config settings keep-alive: m [R]"),
        (Origin("Config", "", "tls", "a.crt"), "certFile", "", 0, "error: Config tls (a.crt) certFile: m [R]"),
        (Origin("Ingress", "a", "b"), "spec.rules", "k.yaml", 7, "k.yaml:7: error: Ingress a/b spec.rules: m [R]"),
        (Origin("Manifest", "", "k"), "", "k", 0, "k: error: Manifest k: m [R]"),
    ],
)
def test_once_each(origin: Origin, field: str, file: str, line: int, spelled: str) -> None:
    assert str(Problem("error", origin, "R", field, "m", file, line)) == spelled
