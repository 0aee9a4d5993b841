"""The configuration file: every key, and every way to get one wrong."""

import json

import pytest

from ingressd.observe import shared_table
from ingressd.settings.config import (
    ClientCertificateConfig,
    EndpointConfig,
    KubernetesConfig,
    ListenerConfig,
    RouteConfig,
    TlsConfig,
)
from ingressd.settings.config_reader import MAX_WORKERS
from ingressd.settings.load import load_config, parse_config


def read(text, *, environ=None, flags=None):
    return parse_config(text.encode(), path="/etc/in/config.yaml", environ=environ or {}, flags=flags or {}, workers=3)


def refused(text):
    loaded = read(text)
    assert loaded.config is None
    return [str(problem).removeprefix("/etc/in/config.yaml:") for problem in loaded.problems]


FULL = """
workers: 2
listeners:
  - {name: http, address: "127.0.0.1:8080", protocol: HTTP}
  - {name: https, address: "[::]:8443", protocol: HTTPS}
admin: {address: "127.0.0.1:10254"}
accessLog: {path: logs/access.log, format: json}
log: {level: debug, format: json}
settings: {proxy-body-size: 1m, ssl-redirect: false, proxy-read-timeout: 60, hide-headers: [A, B]}
settingsConfigMap: ns/name
flags: {default-backend-service: ns/name}
ingressClass: {name: mine, controller: example.com/mine}
gatewayClass: {controller: ingressd.dev/gateway-controller}
zone: a
admission: null
manifests: [./k8s, /abs]
kubernetes: null
routes:
  - {host: Shop.example.com, path: /api, upstream: api, options: {}}
  - {upstream: api, pathType: Exact, path: /x}
upstreams:
  api: {endpoints: ["127.0.0.1:9001", "[::1]:9002", "API.internal:9003", {address: "1.1.1.1:1", weight: 3, zone: b}]}
  hashed: {endpoints: ["127.0.0.1:1"], hashBy: "header:X-User", tls: {serverName: a.b, caFile: ca.pem}}
tls:
  - {hosts: [shop.example.com], certFile: shop.crt, keyFile: shop.key}
"""


def test_every_key_of_the_contract():
    loaded = read(FULL)
    config = loaded.config
    assert loaded.problems == ()
    assert config.workers == 2
    assert config.listeners[1] == ListenerConfig("https", "::", 8443, "HTTPS")
    assert (config.admin.host, config.admin.port) == ("127.0.0.1", 10254)
    assert config.access_log.path == "/etc/in/logs/access.log"
    assert (config.log.level, config.log.format) == ("debug", "json")
    assert config.settings == {
        "proxy-body-size": "1m",
        "ssl-redirect": "false",
        "proxy-read-timeout": "60",
        "hide-headers": "A,B",
    }
    assert config.settings_config_map == "ns/name"
    assert config.flags == {"default-backend-service": "ns/name"}
    assert config.ingress_class.controller == "example.com/mine"
    assert config.zone == "a"
    assert config.manifests == ("/etc/in/k8s", "/abs")
    assert config.routes == (
        RouteConfig("shop.example.com", "/api", "Prefix", "api", 0),
        RouteConfig("", "/x", "Exact", "api", 1),
    )
    assert config.upstreams[0].endpoints == (
        EndpointConfig("127.0.0.1", 9001),
        EndpointConfig("::1", 9002),
        EndpointConfig("api.internal", 9003),
        EndpointConfig("1.1.1.1", 1, 3, "b"),
    )
    hashed = config.upstreams[1]
    assert (hashed.balancer, hashed.hash_by, hashed.tls.ca_file) == ("hash", "header:X-User", "/etc/in/ca.pem")
    assert config.tls == (TlsConfig("shop.crt", ("shop.example.com",), "/etc/in/shop.crt", "/etc/in/shop.key", 0),)


def test_a_cluster_by_kubeconfig_or_by_service_account():
    text = "kubernetes: {kubeconfig: kube/config, namespaces: [b, a, b], labelSelector: 'tier in (web, api),!x'}"
    expected = KubernetesConfig("/etc/in/kube/config", False, ("b", "a"), "tier in (web, api),!x")
    assert read(text).config.kubernetes == expected
    text = "kubernetes: {inCluster: true, snapshotDir: /run/ingressd}"
    assert read(text).config.kubernetes == KubernetesConfig(in_cluster=True, snapshot_dir="/run/ingressd")


@pytest.mark.parametrize("selector", ["a", "!a", "a=b", "a==b", "a!=b", "x.io/a notin (b),c", "a=", "a in (,b)"])
def test_label_selectors(selector):
    text = f"kubernetes: {{inCluster: true, labelSelector: '{selector}'}}"
    assert read(text).config.kubernetes.label_selector == selector


def test_an_empty_file_has_the_defaults():
    config = read("").config
    assert config.workers == 3
    assert config.ingress_class.name == "ingressd"
    assert config.access_log.path == "-"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nworkrs: 2\n", "2:1: error: workrs: unknown key; did you mean 'workers'?"),
        ("admin: {adress: x}\n", "1:9: error: admin.adress: unknown key; did you mean 'address'?"),
        ("workers: two\n", "1:1: error: workers: expected a whole number from 1 to 128, got 'two'"),
        ("workers: 0\n", "1:1: error: workers: expected a whole number from 1 to 128, got 0"),
        ("workers: true\n", "1:1: error: workers: expected a whole number from 1 to 128, got true"),
        ("admin: {address: localhost:1}\n", "an IP address"),
        ("admin: {address: '127.0.0.1:70000'}\n", "expected a port from 1 to 65535, got 70000"),
        ("listeners: {}\n", "1:1: error: listeners: expected a list, got a mapping"),
        ("accessLog: []\n", "accessLog: expected a mapping, got a list"),
        ("accessLog: {path: 3}\n", "accessLog.path: expected a string, got 3"),
        ("log: {level: warn}\n", "1:7: error: log.level: expected one of debug, info, warning, error, got 'warn'"),
        ("zone: [a]\n", "zone: expected a string, got a list"),
        ('zone: "a\\nb"\n', "zone: control characters are not allowed"),
        ("manifests: [1]\n", "1:13: error: manifests[0]: expected a string, got 1"),
        ("settingsConfigMap: x\n", "settingsConfigMap: expected namespace/name, got 'x'"),
        ("kubernetes: {}\n", "1:1: error: kubernetes: expected either 'kubeconfig: FILE' or 'inCluster: true'"),
        ("kubernetes: {inCluster: true, kubeconfig: a}\n", "kubernetes: expected either"),
        ("kubernetes: {inCluster: yes please}\n", "kubernetes.inCluster: expected true or false, got 'yes please'"),
        ("kubernetes: {inClustr: true}\n", "kubernetes.inClustr: unknown key; did you mean 'inCluster'?"),
        ("kubernetes: {inCluster: true, namespaces: [a, B_]}\n", "kubernetes.namespaces[1]: 'B_' is no namespace"),
        ("kubernetes: {inCluster: true, labelSelector: 'a in b'}\n", "kubernetes.labelSelector: expected a label"),
        ("listenerPorts: {http: 80}\n", "listenerPorts.http: expected a port"),
        ("settings: [a]\n", "settings: expected a mapping, got a list"),
        ("- a\n", "1:1: error: expected a mapping"),
        ("a: 1\n---\nb: 1\n", "one document"),
        ("a: [\n", "error"),
        ("workers: 1\nworkers: 2\n", "2:1: error: the key 'workers' is there twice"),
    ],
)
def test_the_whole_file_is_refused_by_name_and_position(text, problem):
    assert any(problem in found for found in refused(text))


@pytest.mark.parametrize(
    ("text", "entry", "says"),
    [
        ("routes: [{upstream: a, pathTyp: Exact}]", "routes[0]", "1:24: error: routes[0].pathTyp: unknown key"),
        ("routes: [{upstream: a, pathType: Exat}]", "routes[0]", "got 'Exat'; did you mean 'Exact'?"),
        ("routes: [{upstream: a, path: api}]", "routes[0]", "expected a path that begins with a slash, got 'api'"),
        ("routes: [{upstream: a, host: 'a..b'}]", "routes[0]", "'a..b' is no host name"),
        ("routes: [{upstream: a, host: 'a.*.b'}]", "routes[0]", "is no host name; a wildcard is *.example.com"),
        ("routes: [{host: a}]", "routes[0]", "'upstream' is missing"),
        ("routes: [x]", "routes[0]", "expected a mapping, got 'x'"),
        ("routes: [{upstream: a, options: {rewrite-target: /}}]", "routes[0]", "rewrite-target: options are not"),
        ("routes: [{upstream: a}, {upstream: b}]", "routes[1]", "routes[0] has the same host"),
        ("upstreams: {u: {endpoints: ['1.1.1.1']}}", "upstreams.u", "endpoints[0]: expected an address and a port"),
        ("upstreams: {u: {endpoints: ['http://a:1']}}", "upstreams.u", "upstreams.u.endpoints[0]"),
        ("upstreams: {u: {endpoints: ['a b:1']}}", "upstreams.u", "'a b' is no address and no host name"),
        ("upstreams: {u: {endpoints: ['1.1.1:1']}}", "upstreams.u", "'1.1.1' is no address and no host name"),
        ("upstreams: {u: {endpoint: []}}", "upstreams.u", "unknown key; did you mean 'endpoints'?"),
        ("upstreams: {u: {endpoints: [], balancer: rr}}", "upstreams.u", "expected one of round_robin, "),
        ("upstreams: {u: {endpoints: [], balancer: ewma, hashBy: uri}}", "upstreams.u", "'ewma' does not hash"),
        ("upstreams: {u: {endpoints: [], tls: {certFile: a}}}", "upstreams.u", "belong together"),
        ("upstreams: {u: {endpoints: [], tls: {protocols: [SSLv3]}}}", "upstreams.u", "SSLv3"),
        ("tls: [{certFile: a}]", "tls[0]", "'keyFile' is missing"),
        ("tls: [{certFile: a, keyFile: b, host: [x]}]", "tls[0]", "unknown key; did you mean 'hosts'?"),
        ("listeners: [{name: a, address: '127.0.0.1:1', protocol: HTTQ}]", "listeners[0]", "did you mean 'HTTP'?"),
        ("listeners: [{name: a, protocol: HTTP}]", "listeners[0]", "'address' is missing"),
        ("settings: {a: {}}", "settings.a", "expected a string, got a mapping"),
    ],
)  # fmt: skip
def test_one_entry_is_refused_and_the_rest_lives(text, entry, says):
    loaded = read(text + "\nzone: kept\n")
    assert loaded.config is not None
    assert loaded.config.zone == "kept"
    assert [problem.entry for problem in loaded.problems] == [entry] * len(loaded.problems)
    assert any(says in str(problem) for problem in loaded.problems)


CLIENTS = "tls: [{hosts: [a.test], certFile: a, keyFile: b, clientCertificate: {%s}}]"


def test_client_certificates():
    config = read(CLIENTS % "caFile: ca.crt, crlFile: ca.crl, verify: optional, verifyDepth: 2, matchCn: 'CN=x'").config
    assert config.tls[0].clients == ClientCertificateConfig(
        "/etc/in/ca.crt", "/etc/in/ca.crl", verify="optional", depth=2, match_cn="CN=x"
    )


@pytest.mark.parametrize("word", ["on", "off"])
def test_on_and_off_need_no_quotes(word):
    for text in (word, f"'{word}'"):
        assert read(CLIENTS % f"caFile: c, verify: {text}").config.tls[0].clients.verify == word


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CLIENTS % "", "'caFile' is missing"),
        (CLIENTS % "caFile: c, verify: sometimes", "expected one of on, off, optional, optional_no_ca"),
        (CLIENTS % "caFile: c, verfy: on", "did you mean 'verify'?"),
        (CLIENTS % "caFile: c, verifyDepth: 0", "expected a whole number from 1 to 100"),
        (CLIENTS % "caFile: c, matchCn: admin", "expected an expression with CN="),
        (CLIENTS % "caFile: c, matchCn: 'CN=(?=x)'", "no expression that RE2 knows"),
        (CLIENTS % "caFile: c, errorPage: /help", "expected an http or https URL"),
        ((CLIENTS % "caFile: c").replace("hosts: [a.test], ", ""), "clientCertificate needs 'hosts'"),
        ((CLIENTS % "caFile: c").replace("keyFile: b, ", ""), "'keyFile' is missing"),
        ((CLIENTS % "caFile: c").replace("a.test", "a..test"), "is no host name"),
    ],
)
def test_a_mistake_in_an_entry_that_guards_its_hosts_refuses_the_file(text, says):
    """Left out like others, it would leave them open."""
    assert says in "".join(refused(text))


def test_a_good_route_beside_a_broken_one():
    config = read("routes: [{upstream: a, path: x}, {upstream: b}]").config
    assert [(route.upstream, route.index) for route in config.routes] == [("b", 1)]


def test_two_listeners_with_one_address():
    text = "listeners: [{name: a, address: ':80', protocol: HTTP}, {name: b, address: '[::]:80', protocol: HTTP}]"
    loaded = read(text)
    assert [listener.name for listener in loaded.config.listeners] == ["a"]
    assert "the listener 'a' has this address already" in str(loaded.problems[0])


def test_listener_ports_are_taken_with_a_warning():
    loaded = read("listenerPorts: {80: 8080, 443: 8443}")
    assert loaded.config.listener_ports == {80: 8080, 443: 8443}
    assert [problem.severity for problem in loaded.problems] == ["warning"]
    assert "not built yet" in loaded.problems[0].message


def test_a_file_that_is_not_there(tmp_path):
    loaded = load_config(str(tmp_path / "none.yaml"), environ={}, flags={})
    assert loaded.config is None
    assert str(loaded.problems[0]) == f"{tmp_path}/none.yaml: error: cannot be read: No such file or directory"


def test_not_utf8():
    loaded = parse_config(b"zone: a\nx: \xff\n", path="c.yaml", environ={}, flags={}, workers=1)
    assert str(loaded.problems[0]) == "c.yaml:2:4: error: not UTF-8"


@pytest.mark.parametrize("lines", ["\n", " "])
@pytest.mark.parametrize(
    "config",
    [
        {"tls": [{"hosts": ["a.test"], "certFile": "a.crt", "keyFile": ...}]},
        {"tls": [{"hosts": ["a.test"], "certFile": ..., "keyFile": "a.key"}]},
        {"admission": {"address": ":9443", "certFile": "a.crt", "keyFile": ...}},
        {"upstreams": {"u": {"endpoints": ["127.0.0.1:1"], "tls": {"certFile": "a.crt", "keyFile": ...}}}},
    ],
)
def test_a_key_in_place_of_its_files_name_is_refused_and_not_quoted(tmp_path, config, lines):
    key = lines.join(("-----BEGIN PRIVATE KEY-----", "hunter2", "-----END PRIVATE KEY-----"))
    (tmp_path / "c.yaml").write_text(json.dumps(config, default=lambda _: key))
    loaded = load_config(str(tmp_path / "c.yaml"), environ={}, flags={})
    assert loaded.problems
    assert "hunter2" not in " ".join(map(str, loaded.problems))


def test_there_may_be_as_many_workers_as_share_a_table():
    assert MAX_WORKERS == shared_table.MAX_WORKERS
    assert read(f"workers: {MAX_WORKERS}").config.workers == MAX_WORKERS
    assert refused(f"workers: {MAX_WORKERS + 1}")
