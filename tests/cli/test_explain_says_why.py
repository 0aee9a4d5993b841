"""`explain` must name the winner, its origin, policy, upstream and endpoints, and a reason for every loser."""

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from stage.certificates import authority, issued, revoked

from ingressd.cli.explain import Request, explain, explain_url
from ingressd.cli.offline import translate_config
from ingressd.model.codec import to_json, units_from_json
from ingressd.model.problem import Origin
from ingressd.model.units import ClientCertificates, Route, RoutePolicy, VirtualHost

PEMS = Path(__file__).parents[1] / "golden" / "pems"
CONFIG = f"""\
settings: {{use-forwarded-headers: "true"}}
routes:
- {{host: a.example, path: /, upstream: api}}
- {{host: a.example, path: /exact, pathType: Exact, upstream: api}}
- {{host: plain.example, upstream: names}}
- {{host: guarded.example, upstream: guarded}}
- {{host: broken.example, upstream: gone}}
- {{host: "*.example", upstream: api}}
upstreams:
  api: {{endpoints: ["127.0.0.1:9001", "[::1]:9002"], balancer: ewma}}
  names: {{endpoints: ["api.internal:80"]}}
  guarded:
    endpoints: ["127.0.0.1:9003"]
    healthCheck:
      {{path: /well, interval: 1500ms, timeout: 1s, healthyThreshold: 2, unhealthyThreshold: 4,
       expectedStatuses: [204, 300-399]}}
    maxRequests: 5
    maxPending: 7
    pendingTimeout: 3s
tls:
- {{certFile: {PEMS}/a.example.crt, keyFile: {PEMS}/a.example.key}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path / "c.yaml"


def ask(url: str, *, config: Path | None = None, admin: str | None = None, headers: list[str] | None = None) -> str:
    out = io.StringIO()
    explain_url(
        url,
        config=config and str(config),
        admin=admin,
        headers=headers or [],
        environ={},
        flags={},
        now_s=1e9,
        out=out,
    )
    return out.getvalue()


@contextmanager
def admin_listener(pages: Mapping[str, bytes]) -> Iterator[str]:
    """Its address; it answers 404 to everything else."""

    class Admin(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Admin)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_winner_and_its_way(config: Path) -> None:
    text = ask("https://a.example/exact", config=config)
    assert text.splitlines() == [
        "request     GET https://a.example/exact",
        f"certificate /{PEMS}/a.example.crt for a.example (Config tls ({PEMS}/a.example.crt))",
        "winner      Exact a.example/exact",
        "  origin      Config routes (Exact a.example/exact)",
        "  policy      process-wide: body 1048576 bytes, connect/send/read 5/60/60 s, 3 tries on error timeout",
        "  upstream    /api, ewma",
        "  retries     after time-outs and statuses 20 % of its requests at most, or 3 a second",
        "  endpoint    127.0.0.1:9001",
        "  endpoint    [::1]:9002",
        "lost",
        "  Prefix a.example/ (Config routes (Prefix a.example/)): Exact /exact beats Prefix",
        "  Prefix *.example/ (Config routes (Prefix *.example/)): "
        "host a.example is more specific and is chosen before any path",
    ]


def test_plain_http_to_a_host_with_tls_is_redirected_unless_a_proxy_says_https(config: Path) -> None:
    redirect = "  answer      308 to https: the host has a certificate, and ssl-redirect is on"
    assert redirect in ask("a.example/", config=config)
    assert redirect not in ask("a.example/", config=config, headers=["X-Forwarded-Proto: https"])


def test_the_host_field_wins_over_the_url(config: Path) -> None:
    assert "Prefix plain.example/" in ask("http://127.0.0.1:8080/", config=config, headers=["Host: Plain.example:8080"])


def test_what_has_no_way_says_why(config: Path) -> None:
    assert "503: the backend leads nowhere" in ask("http://broken.example/", config=config)
    assert "api.internal:80 (a name, not resolved offline)" in ask("http://plain.example/", config=config)
    assert "none: 404, no rule and no default backend takes it" in ask("http://other/", config=config)
    assert "none: 200, as /healthz of a host that nothing matches" in ask("http://other/healthz", config=config)
    assert "such a request answers 400" in ask("http://a.example/../x", config=config)


GUARDS = [
    "  health      GET /well at each endpoint's port every 1.5 s, 204,300-399 expected within 1 s; "
    "unhealthy threshold 4, healthy threshold 2",
    "  cap         5 requests at a time for each endpoint; 7 more wait, 3 s at most",
]


def test_health_checks_and_the_cap_of_the_upstream_are_told(config: Path) -> None:
    lines = ask("http://guarded.example/", config=config).splitlines()
    at = lines.index("  upstream    /guarded, round_robin")
    assert lines[at + 1 : at + 3] == GUARDS
    config.write_text(CONFIG.replace("{path: /well,", "{path: /well, host: 'guarded.internal:81',"))
    assert "GET /well with Host guarded.internal:81 at each" in ask("http://guarded.example/", config=config)
    plain = ask("https://a.example/", config=config)
    assert "  health " not in plain
    assert "  cap " not in plain


def test_annotations_of_a_service_are_told_alike(tmp_path: Path) -> None:
    manifests = tmp_path / "objects"
    manifests.mkdir()
    (manifests / "web.yaml").write_text("""\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    ingressd.dev/health-check-path: /well
    ingressd.dev/health-check-interval: 1500ms
    ingressd.dev/health-check-timeout: 1s
    ingressd.dev/health-check-healthy-threshold: "2"
    ingressd.dev/health-check-unhealthy-threshold: "4"
    ingressd.dev/health-check-expected-statuses: 204,300-399
    ingressd.dev/max-requests: "5"
    ingressd.dev/max-pending: "7"
    ingressd.dev/pending-timeout: 3s
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ingressd}
spec: {controller: ingressd.dev/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: ingressd
  defaultBackend: {service: {name: web, port: {number: 80}}}
""")
    (tmp_path / "c.yaml").write_text("manifests: [objects]\n")
    lines = ask("http://any.example/", config=tmp_path / "c.yaml").splitlines()
    at = lines.index("  upstream    default/web:80, round_robin")
    assert lines[at + 1 : at + 3] == GUARDS


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            "retry-budget-percent: '5', retry-budget-min-per-second: '0.5'",
            "5 % of its requests at most, or 0.5 a second",
        ),
        ("proxy-next-upstream: 'http_502'", "20 % of its requests at most, or 3 a second"),
        ("proxy-next-upstream: error", ""),
        ("proxy-next-upstream: 'off'", ""),
        ("proxy-next-upstream-tries: '1'", ""),
    ],
)
def test_the_retry_budget_is_told_where_it_is_asked(config: Path, settings: str, told: str) -> None:
    config.write_text(CONFIG.replace("settings: {", f"settings: {{{settings}, "))
    said = [line for line in ask("https://a.example/", config=config).splitlines() if line.startswith("  retries ")]
    assert said == ([f"  retries     after time-outs and statuses {told}"] if told else [])


def test_a_path_that_is_normalised_is_shown_as_it_is_matched(config: Path) -> None:
    assert "  matched as  /exact\n" in ask("http://a.example//x/%2e%2e/exact", config=config)


def test_units_survive_the_way_over_the_admin_listener_and_answer_alike(config: Path) -> None:
    units = translate_config(str(config), environ={}, flags={}, now_s=1e9).translation.units
    body = to_json({"version": 7, "units": units})
    assert units_from_json(body).keys() == units.keys()

    with admin_listener({"/debug/snapshot": body}) as admin:
        for url in ("https://a.example/exact", "http://guarded.example/"):
            assert ask(url, admin=admin) == ask(url, config=config)


def test_a_running_instance_tells_which_endpoints_its_health_checks_keep_out(config: Path) -> None:
    units = translate_config(str(config), environ={}, flags={}, now_s=1e9).translation.units
    probed = {"upstream": "/api", "healthy": True, "ejected": False, "successes": 0, "failures": 0, "said": ""}
    refused = {**probed, "address": "127.0.0.1:9001", "healthy": False, "ejected": True, "said": "answered 500"}
    recovering = {**probed, "address": "::1:9002", "healthy": False, "successes": 1}

    def endpoints(*views: object) -> list[str]:
        pages = {"/debug/snapshot": to_json({"units": units}), "/debug/health": to_json({"endpoints": views})}
        with admin_listener(pages) as admin:
            lines = ask("https://a.example/", admin=admin).splitlines()
        return [line for line in lines if line.startswith("  endpoint ")]

    assert endpoints(refused, recovering) == [
        "  endpoint    127.0.0.1:9001 (unhealthy: answered 500)",
        "  endpoint    [::1]:9002 (unhealthy)",
    ]
    assert endpoints({**refused, "healthy": True}, {**recovering, "upstream": "/other"}) == [
        "  endpoint    127.0.0.1:9001 (ejected)",
        "  endpoint    [::1]:9002",
    ]
    assert endpoints({**refused, "healthy": True, "ejected": False})[0] == "  endpoint    127.0.0.1:9001"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({}, "answered 404 to /debug/snapshot"),
        ({"/debug/snapshot": b"[]"}, "is no snapshot"),
        ({"/debug/snapshot": b'{"units": {}}', "/debug/health": b"{}"}, "to /debug/health cannot be read"),
    ],
)
def test_an_instance_that_answers_something_else_is_an_error(pages: dict[str, bytes], said: str) -> None:
    with admin_listener(pages) as admin:
        text = ask("http://a.example/", admin=admin)
    assert text.startswith("explain: ")
    assert said in text


def test_objects_of_the_cluster_are_said_to_be_unknown(config: Path) -> None:
    assert "note " not in ask("shop.example.com/", config=config)
    config.write_text(config.read_text() + "kubernetes: {inCluster: true}\n")
    assert ask("shop.example.com/", config=config).splitlines()[-1].startswith("note        by the files alone")


def test_client_certificates_are_told(config: Path) -> None:
    pair = f"certFile: {PEMS}/wild.example.crt, keyFile: {PEMS}/wild.example.key"
    asks = f"- {{hosts: ['*.example'], {pair}, clientCertificate: {{caFile: {PEMS}/default.crt, verify: optional}}}}\n"
    config.write_text(CONFIG + asks)
    told = f"clients     certificates optional by /{PEMS}/wild.example.crt"
    text = ask("https://plain.example/", config=config)
    assert f"{told}, depth 1 (Config " in text, "a host of its own, which the wildcard covers"
    (config.parent / "ca.crt").write_bytes(authority().cert)
    (config.parent / "ca.crl").write_bytes(revoked(issued("gone")))
    listed = asks.replace(f"{PEMS}/default.crt", "ca.crt, crlFile: ca.crl")
    config.write_text(CONFIG + listed)
    assert ", depth 1, revocations looked up (Config " in ask("https://plain.example/", config=config)
    more = "verify: on, verifyDepth: 3, matchCn: CN=ann, passCertificate: true, errorPage: 'https://a.example/no'"
    config.write_text(CONFIG + asks.replace("verify: optional", more))
    told = ", depth 3, subject must match CN=ann, others redirected to https://a.example/no, passed to the upstream ("
    assert told in ask("https://plain.example/", config=config)
    config.write_text(CONFIG + asks.replace("default.crt", "nothing.crt"))
    assert "clients     everybody is answered 503: " in ask("https://other.example/", config=config)


def test_a_guarded_route_on_a_host_that_asks_for_nothing_is_told() -> None:
    origin = Origin("Ingress", "default", "web")
    units = {
        "policy/guarded": RoutePolicy(client_certificates=True),
        "host/a.example": VirtualHost(
            "a.example", (Route(origin=origin, path_type="Prefix", path="/", upstream="u", policy="guarded"),)
        ),
        "clients/a.example": ClientCertificates(host="a.example", origin=origin, verify="off"),
    }
    request = Request("GET", True, b"a.example", b"/", "/")
    told = list(explain(request, units, unresolved={}, health={}))
    assert any(line.startswith("  answer      403: the route asks for client certificates") for line in told)
