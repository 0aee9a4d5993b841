"""`healthCheck` of an upstream in the file, and the annotations of a Service."""

import pytest

from ingressd.control.objects.kubernetes import HealthCheckAnnotations
from ingressd.settings.config import HealthCheck
from ingressd.settings.health_check import KEYS, PREFIX, read_annotations
from ingressd.settings.load import parse_config

FILE = """
upstreams:
  api:
    endpoints: ["127.0.0.1:1"]
    healthCheck: {%s}
"""


def read(text):
    return parse_config((FILE % text).encode(), path="/c.yaml", environ={}, flags={}, workers=1)


def refused(text):
    loaded = read(text)
    assert loaded.config is None or not loaded.config.upstreams
    return [str(problem) for problem in loaded.problems]


def test_a_path_is_enough():
    assert read("path: /healthz").config.upstreams[0].health_check == HealthCheck("/healthz")
    assert HealthCheck("/") == HealthCheck("/", 5.0, 2.0, 1, 3, ((200, 399),), "")


def test_every_key():
    loaded = read(
        "path: '/h?x=1', interval: 500ms, timeout: 1, healthyThreshold: 2, unhealthyThreshold: 4, "
        "expectedStatuses: [200, 300-302], host: 'A.example:80'"
    )
    assert loaded.problems == ()
    expected = HealthCheck("/h?x=1", 0.5, 1.0, 2, 4, ((200, 200), (300, 302)), "a.example:80")
    assert loaded.config.upstreams[0].health_check == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("interval: 1s", "upstreams.api.healthCheck: 'path' is missing"),
        ("path: healthz", "healthCheck.path: expected a path like /healthz, got 'healthz'"),
        ("path: '/a b'", "healthCheck.path: expected a path"),
        ('path: "/a\\r\\nX: y"', "healthCheck.path: expected a path"),
        ("path: /, interval: 99ms", "healthCheck.interval: expected a time from 0.1s to 3600s, got '99ms'"),
        ("path: /, interval: 3601", "healthCheck.interval: expected a time from 0.1s to 3600s"),
        ("path: /, timeout: 61s", "healthCheck.timeout: expected a time from 0.1s to 60s"),
        ("path: /, timeout: true", "healthCheck.timeout: expected a string, got true"),
        ("path: /, healthyThreshold: 0", "healthCheck.healthyThreshold: "),
        ("path: /, unhealthyThreshold: 101", "healthCheck.unhealthyThreshold: "),
        ("path: /, expectedStatuses: 2xx", "healthCheck.expectedStatuses: expected statuses like 200-399"),
        ("path: /, expectedStatuses: 100", "healthCheck.expectedStatuses: expected statuses like 200-399"),
        ("path: /, expectedStatuses: 300-200", "healthCheck.expectedStatuses: expected statuses like 200-399"),
        ("path: /, host: 'a b'", "healthCheck.host: 'a b' is no address and no host name"),
        ("path: /, intervall: 1s", "healthCheck.intervall: unknown key; did you mean 'interval'?"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(text, says):
    (problem,) = refused(text)
    assert problem.startswith("/c.yaml:5:")
    assert says in problem


def test_the_annotations_that_are_read_are_those_that_are_kept_of_a_service():
    assert set(HealthCheckAnnotations.__struct_encode_fields__) == {PREFIX + key.annotation for key in KEYS}


def test_annotations_say_the_same():
    values = {
        "path": "/h",
        "interval": "500ms",
        "timeout": "1",
        "healthy-threshold": "2",
        "unhealthy-threshold": "4",
        "expected-statuses": "200,300-302",
        "host": "[::1]:80",
    }
    assert set(values) == {key.annotation for key in KEYS}
    expected = HealthCheck("/h", 0.5, 1.0, 2, 4, ((200, 200), (300, 302)), "[::1]:80")
    assert read_annotations(values) == (expected, ())
