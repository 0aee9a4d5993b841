"""The operational log: one line an event, fields beside it, nothing secret."""

import io
import json
import re

import pytest

from ingressd.model.secret import PrivateBytes
from ingressd.observe.operational_log import configure


@pytest.fixture
def stream():
    yield io.StringIO()
    configure("info", "text", process="tests")


def test_text_is_one_line_with_fields(stream):
    log = configure("info", "text", process="worker 1", stream=stream)
    log.getChild("pipeline").info("version %d", 7, extra={"object": "Ingress shop/front"})
    pattern = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    worker 1: version 7 object="Ingress shop/front"\n'
    assert re.fullmatch(pattern, stream.getvalue())


def test_json_is_one_object_a_line(stream):
    log = configure("debug", "json", process="controller", stream=stream)
    log.warning('it\'s "%s"', "odd\nvalue", extra={"object": "x"})
    entry = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    del entry["time"]
    assert entry == {
        "level": "warning",
        "process": "controller",
        "logger": "ingressd",
        "message": 'it\'s "odd\nvalue"',
        "object": "x",
    }


def test_a_message_cannot_forge_a_second_line(stream):
    configure("info", "text", process="p", stream=stream).info("host %s", "a\r\n2026 error forged")
    assert stream.getvalue().count("\n") == 1


def test_levels_below_are_silent(stream):
    log = configure("warning", "text", process="p", stream=stream)
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_redact_themselves(stream, form):
    log = configure("info", form, process="p", stream=stream)
    log.info("key %s", PrivateBytes(b"hunter2"), extra={"key": PrivateBytes(b"hunter2")})
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 2


@pytest.mark.parametrize(("level", "form"), [("loud", "text"), ("info", "xml")])
def test_unknown_words_are_refused(stream, level, form):
    with pytest.raises(KeyError):
        configure(level, form, process="p", stream=stream)
