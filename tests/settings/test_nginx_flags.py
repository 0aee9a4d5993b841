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
            "publish-service": "ns/svc",
            "report-node-internal-ip-address": "true",
            "update-status-on-shutdown": "false",
            "status-update-interval": "5",
            "election-id": "mine",
            "election-ttl": "1m",
            "disable-leader-election": "true",
            "disable-sync-events": "true",
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
        publish_service="ns/svc",
        report_node_internal_ip_address=True,
        update_status_on_shutdown=False,
        status_update_interval_s=5.0,
        election_id="mine",
        election_ttl_s=60.0,
        disable_leader_election=True,
        disable_sync_events=True,
    )


def test_external_names_are_off_unless_allowed():
    assert ProcessFlags().disable_svc_external_name is True


@pytest.mark.parametrize(
    ("name", "value", "reason", "says"),
    [
        ("default-ssl-certificate", "cert", "InvalidValue", "expected namespace/name, got 'cert'"),
        ("disable-catch-all", "maybe", "InvalidValue", "expected"),
        ("publish-status-address", "1.2.3.4;rm", "InvalidValue", "no address"),
        ("publish-service", "svc", "InvalidValue", "expected namespace/name, got 'svc'"),
        ("status-update-interval", "0", "InvalidValue", "from 1 to 86400"),
        ("status-update-interval", "86401", "InvalidValue", "from 1 to 86400"),
        ("election-ttl", "999ms", "InvalidValue", "expected a time from 1s to 1h"),
        ("election-ttl", "3601s", "InvalidValue", "expected a time from 1s to 1h"),
        ("election-id", "a_b", "InvalidValue", "no object name"),
        ("validating-webhook", "example.com:8443", "InvalidValue", "expected an IP address and a port"),
        ("validating-webhook-key", "-----BEGIN PRIVATE KEY-----", "InvalidValue", "expected the name of a file"),
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


@pytest.mark.parametrize(("name", "value"), [("election-ttl", "1s"), ("election-ttl", "1h"), ("election-id", "a.b-c")])
def test_at_the_limit(name, value):
    assert parse_flags({name: value})[1] == ()


def test_last_good():
    flags, problems = parse_flags({"default-ssl-certificate": "?"}, last_good={"default-ssl-certificate": "ns/cert"})
    assert flags.default_ssl_certificate == "ns/cert"
    assert len(problems) == 1


def test_the_reference_names_every_flag():
    assert all(f"| `{name}`" in flags_reference() for name in FLAGS)
