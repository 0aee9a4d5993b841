"""Certificates of the run, and stores that hold them."""

from __future__ import annotations

import pytest
from proxy.tls.peers import Authority, make_store


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("Test CA")


@pytest.fixture(scope="session")
def certificates(authority):
    """A certificate for a.test, one for b.test, one for any name below wild.test, and a default."""
    return {
        "a": authority.certificate_for("a", "a.test"),
        "b": authority.certificate_for("b", "b.test"),
        "wild": authority.certificate_for("wild", "*.wild.test"),
        "default": authority.certificate_for("default", "default.test"),
    }


@pytest.fixture
def store(certificates):
    hosts = {"a.test": "a", "b.test": "b", "*.wild.test": "wild", "": "default"}
    return make_store(certificates, hosts)
