"""ingress-nginx's command-line flags in `flags`."""

import pytest

from ingressd.settings.flags import FLAGS, ProcessFlags, flags_reference, parse_flags


def test_built_flags():
    flags, problems = parse_flags(
        {
            "ingress-class": "mine",
            "controller-class": "example.com/mine",
            "watch-namespace": "default",
            "default-backend-service": "ns/svc",
            "default-ssl-certificate": "ns/cert",
            "disable-catch-all": "true",
            "disable-svc-external-name": "false",
            "publish-status-address": "203.0.113.9, lb.example.com",
        }
    )
    assert problems == ()
    assert flags == ProcessFlags(
        ingress_class="mine",
        controller_class="example.com/mine",
        watch_namespace="default",
        default_backend_service="ns/svc",
        default_ssl_certificate="ns/cert",
        disable_catch_all=True,
        disable_svc_external_name=False,
        publish_status_address=("203.0.113.9", "lb.example.com"),
    )


def test_external_names_are_off_unless_allowed():
    assert ProcessFlags().disable_svc_external_name is True


@pytest.mark.parametrize(
    ("name", "value", "reason", "says"),
    [
        ("default-ssl-certificate", "cert", "InvalidValue", "expected namespace/name, got 'cert'"),
        ("disable-catch-all", "maybe", "InvalidValue", "expected"),
        ("publish-status-address", "1.2.3.4;rm", "InvalidValue", "no address"),
        ("validating-webhook", "example.com:8443", "InvalidValue", "expected an IP address and a port"),
        ("default-backend-servic", "a/b", "UnknownKey", "did you mean 'default-backend-service'?"),
        ("tcp-services-configmap", "a/b", "NotBuilt", "not built yet"),
        ("enable-ssl-passthrough", "true", "NotBuilt", "not built yet"),
    ],
)
def test_refused_by_name_and_the_rest_stands(name, value, reason, says):
    flags, problems = parse_flags({name: value, "watch-namespace": "kept"})
    assert flags == ProcessFlags(watch_namespace="kept")
    assert [(problem.key, problem.reason) for problem in problems] == [(name, reason)]
    assert says in problems[0].message


def test_last_good():
    flags, problems = parse_flags({"default-ssl-certificate": "?"}, last_good={"default-ssl-certificate": "ns/cert"})
    assert flags.default_ssl_certificate == "ns/cert"
    assert len(problems) == 1


def test_the_reference_names_every_flag():
    assert all(f"| `{name}`" in flags_reference() for name in FLAGS)
