"""Where the webhook listens: the file, and the flags over it."""

import pytest

from ingressd.settings.admission import admission_of
from ingressd.settings.config import AdmissionConfig
from ingressd.settings.load import parse_config


def admission(text):
    loaded = parse_config(text.encode(), path="/etc/in/config.yaml", environ={}, flags={}, workers=1)
    assert loaded.problems == ()
    return admission_of(loaded.config)


FILE = "admission: {address: '127.0.0.1:9443', certFile: tls.crt, keyFile: /keys/tls.key}\n"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("{address: ':9443', keyFile: b}", "admission", "'certFile' is missing"),
        ("{certFile: a, keyFile: b}", "admission", "'address' is missing"),
        ("{address: 'here:9443', certFile: a, keyFile: b}", "admission.address", "expected an IP address and a port"),
        ("{address: ':9443', certFile: a, keyFile: b, ca: c}", "admission.ca", "unknown key"),
        ("on", "admission", "expected a mapping"),
    ],
)
def test_a_mistake_leaves_out_the_webhook_and_nothing_else(text, path, message):
    loaded = parse_config(f"admission: {text}\n".encode(), path="/c.yaml", environ={}, flags={}, workers=1)
    assert loaded.config.admission is None
    problem = next(one for one in loaded.problems if one.path == path)
    assert (problem.entry, problem.severity, problem.line) == ("admission", "error", 1)
    assert message in problem.message


def test_unset_is_none():
    assert admission("admission: null\n") is None
    assert admission("flags: {validating-webhook: ''}\n") is None


def test_paths_start_from_the_folder_of_the_file():
    assert admission(FILE) == AdmissionConfig("127.0.0.1", 9443, "/etc/in/tls.crt", "/keys/tls.key")


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("validating-webhook", ":8443", AdmissionConfig("::", 8443, "/etc/in/tls.crt", "/keys/tls.key")),
        ("validating-webhook-certificate", "a", AdmissionConfig("127.0.0.1", 9443, "/etc/in/a", "/keys/tls.key")),
        ("validating-webhook-key", "/b", AdmissionConfig("127.0.0.1", 9443, "/etc/in/tls.crt", "/b")),
    ],
)
def test_each_flag_wins_over_its_key(flag, value, expected):
    assert admission(FILE + f"flags: {{{flag}: '{value}'}}\n") == expected


def test_flags_alone_are_enough():
    flags = "{validating-webhook: '[::1]:8443', validating-webhook-certificate: c, validating-webhook-key: k}"
    assert admission(f"flags: {flags}\n") == AdmissionConfig("::1", 8443, "/etc/in/c", "/etc/in/k")


def test_a_malformed_flag_leaves_the_file_in_force():
    assert admission(FILE + "flags: {validating-webhook: 'here'}\n") == admission(FILE)
