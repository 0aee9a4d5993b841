"""`ingressd explain`: which rule, policies, upstream and endpoints a request would take, and why the others lost."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO
from urllib.parse import urlsplit

from ingressd.cli.live import AdminError, fetch_health, fetch_units
from ingressd.cli.offline import translate_config
from ingressd.filters.ssl_redirect import SPEC as SSL_REDIRECT
from ingressd.model.problem import Problem
from ingressd.model.units import (
    Certificate,
    ClientAuthority,
    ClientCertificates,
    Endpoint,
    Endpoints,
    ProcessPolicy,
    Route,
    RoutePolicy,
    TlsHost,
    Unit,
    Upstream,
    VirtualHost,
)
from ingressd.proxy.routing.candidates import Candidate, candidates
from ingressd.proxy.routing.normalise import normalise_host, normalise_path
from ingressd.proxy.tls.clients import MISPLACED, ClientGuards, ClientPolicy
from ingressd.settings.config import HealthCheck, RequestCap
from ingressd.settings.overlay import command_value

EXPLAINED, FAILED = 0, 2


class Request(NamedTuple):
    """What routing looks at. `host` and `path` are normalised; `came_as` is the path as it came."""

    method: str
    tls: bool
    host: bytes
    path: bytes
    came_as: str


class ExplainError(Exception):
    """The question cannot be answered; the words are for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `ingressd explain` takes."""
    parser.description = "Say which route a request would take, and why every other lost."
    parser.add_argument("url", metavar="URL", help="http:// or https://; without a scheme it is http")
    parser.add_argument("--config", metavar="FILE", help="answer by this configuration file [INGRESSD_CONFIG]")
    parser.add_argument("--admin", metavar="ADDR", help="ask the running instance with this admin listener")
    parser.add_argument("--method", metavar="M", help="the request's method, GET if not said")
    parser.add_argument("--header", metavar="'N: v'", action="append", help="a field of the request")


def run(parsed: argparse.Namespace) -> int:
    """The command; its exit code."""
    environ = dict(os.environ)  # noqa: TID251 - an entry point, from which it is passed on
    header = command_value("header", environ=environ, flag=None)
    return explain_url(
        parsed.url,
        config=command_value("config", environ=environ, flag=parsed.config) or None,
        admin=command_value("admin", environ=environ, flag=parsed.admin) or None,
        method=command_value("method", environ=environ, flag=parsed.method) or "GET",
        headers=parsed.header or ([header] if header else []),
        environ=environ,
        flags={},
        now_s=time.time(),  # noqa: TID251 - an entry point
        out=sys.stdout,
    )


def explain_url(
    url: str,
    *,
    config: str | None = None,
    admin: str | None = None,
    method: str = "GET",
    headers: Sequence[str] = (),
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    now_s: float,
    out: TextIO,
) -> int:
    """Explain a request for `url`, by a configuration file or by the running instance whose admin listener is `admin`.

    `headers` are "Name: value". A URL without scheme is http. Returns 0, or 2 when the question or the configuration
    cannot be read.
    """
    problems: Sequence[Problem] = ()
    unresolved: Mapping[str, list[str]] = {}
    health: Mapping[tuple[str, str], str] = {}
    in_cluster = False
    units: Mapping[str, Unit]
    try:
        if admin is not None:
            units, health = fetch_units(admin), fetch_health(admin)
        elif config is not None:
            offline = translate_config(config, environ=environ, flags=flags, now_s=now_s)
            if offline.config is None:
                raise ExplainError("\n".join(["the configuration file is refused", *map(str, offline.problems)]))
            units, problems, unresolved = offline.translation.units, offline.problems, offline.unresolved
            in_cluster = offline.config.kubernetes is not None
        else:
            raise ExplainError("say --config FILE or --admin ADDR")
        request = read_request(url, method=method, headers=headers, process=_process(units))
    except (ExplainError, AdminError) as error:
        print(f"explain: {error}", file=out)
        return FAILED
    for line in explain(request, units, problems=problems, unresolved=unresolved, health=health):
        print(line, file=out)
    if in_cluster:
        print(
            "note        by the files alone: what is in the cluster only --admin ADDR of a running instance knows",
            file=out,
        )
    return EXPLAINED


def read_request(url: str, *, method: str, headers: Sequence[str], process: ProcessPolicy) -> Request:
    """The request that a client would send. Raises ExplainError for what answers 400, or is no http URL."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https"):
        raise ExplainError(f"{url!r} is not an http or https URL")
    fields: dict[str, str] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise ExplainError(f"header {header!r} has no colon")
        fields[name.strip().lower()] = value.strip()
    tls = parts.scheme == "https"
    if process.use_forwarded_headers and "x-forwarded-proto" in fields:
        tls = fields["x-forwarded-proto"].lower() == "https"
    authority = fields.get("host", parts.netloc.rpartition("@")[2])
    try:
        host = normalise_host(authority.encode())
        path = normalise_path(parts.path.encode())
    except ValueError as error:
        raise ExplainError(f"such a request answers 400: {error}") from None
    return Request(method, tls, host, path, parts.path or "/")


def explain(
    request: Request,
    units: Mapping[str, Unit],
    *,
    problems: Sequence[Problem] = (),
    unresolved: Mapping[str, list[str]],
    health: Mapping[tuple[str, str], str],
) -> Iterator[str]:
    """The explanation, line by line. `problems` tell of rules that lost before there was a table, `health` why
    endpoints get no request now, by upstream and "address:port"."""
    host, path = request.host.decode(errors="replace"), request.path.decode(errors="replace")
    yield f"request     {request.method} {'https' if request.tls else 'http'}://{host}{request.came_as}"
    if path != request.came_as:
        yield f"  matched as  {path}"
    if request.tls:
        yield f"certificate {_certificate(host, units)}"
    vhosts = {unit.host: unit for unit in units.values() if isinstance(unit, VirtualHost)}
    guards = _guards(vhosts, units)
    clients = guards.of(request.host)
    if clients is not None:
        yield f"clients     {_describe_clients(clients, units)}"
    listed = candidates(vhosts, request.host, request.path)
    winner = next((one for one in listed if not one.lost), None)
    if winner is None:
        yield f"winner      none: {_without_route(host, path, vhosts, process=_process(units))}"
    else:
        yield f"winner      {_spell(winner)}"
        yield f"  origin      {winner.route.origin}"
        if _policy(winner.route, units).client_certificates and not guards.ask_for(winner.route, clients):
            yield f"  answer      403: {MISPLACED}"
        yield from _way(request, winner.route, units, unresolved=unresolved, health=health)
    losers = [f"{_spell(one)} ({one.route.origin}): {one.lost}" for one in listed if one.lost]
    hosts = tuple(f" {one.host or '(any host)'}/" for one in listed)
    losers += [
        f"{problem.origin}: {problem.message}"
        for problem in problems
        if problem.reason == "PathConflict" and any(host in problem.message for host in hosts)
    ]
    if losers:
        yield "lost"
    for line in losers:
        yield f"  {line}"


def _way(
    request: Request,
    route: Route,
    units: Mapping[str, Unit],
    *,
    unresolved: Mapping[str, list[str]],
    health: Mapping[tuple[str, str], str],
) -> Iterator[str]:
    """What a request that takes a route meets, up to where it is answered."""
    policy = _policy(route, units)
    process = _process(units)
    yield f"  policy      {_describe_policy(route, policy)}"
    if policy.failed_closed:
        yield f"  answer      503: {policy.failed_closed} cannot be honoured, and a security policy fails closed"
        return
    compile_redirect = SSL_REDIRECT.compile_request
    if not request.tls and compile_redirect is not None and compile_redirect(process, policy, route) is not None:
        why = (
            "force-ssl-redirect" if policy.force_ssl_redirect else "the host has a certificate, and ssl-redirect is on"
        )
        yield f"  answer      {process.redirect_code} to https: {why}"
    if policy.allowed_sources:
        yield f"  sources     only {', '.join(policy.allowed_sources)}; others get 403"
    if policy.denied_sources:
        yield f"  sources     not {', '.join(policy.denied_sources)}: they get 403"
    if route.upstream is None:
        yield f"  answer      {route.status}: the backend leads nowhere; `ingressd check` says why"
        return
    upstream = units.get(f"upstream/{route.upstream}")
    if isinstance(upstream, Upstream):
        yield from _describe_upstream(upstream)
    if _asks_budget(policy):
        share, least = process.retry_budget_percent, process.retry_budget_min_per_s
        yield f"  retries     after time-outs and statuses {share:g} % of its requests at most, or {least:g} a second"
    endpoints = units.get(f"endpoints/{route.upstream}")
    found = endpoints.endpoints if isinstance(endpoints, Endpoints) else ()
    for endpoint in found:
        unfit = health.get((route.upstream, f"{endpoint.address}:{endpoint.port}"), "")
        yield f"  endpoint    {_describe_endpoint(endpoint, unfit)}"
    names = unresolved.get(route.upstream, [])
    for name in names:
        yield f"  endpoint    {name} (a name, not resolved offline)"
    if not found and not names:
        yield "  answer      503: no usable endpoint"


def _describe_upstream(upstream: Upstream) -> Iterator[str]:
    hashed = f" by {upstream.hash_by}" if upstream.hash_by else ""
    yield f"  upstream    {upstream.name}, {upstream.balancer}{hashed}{', over TLS' if upstream.tls else ''}"
    check, cap = upstream.health_check, upstream.cap
    if isinstance(check, HealthCheck):
        host = f" with Host {check.host}" if check.host else ""
        statuses = ",".join(
            f"{least}-{most}" if least != most else f"{least}" for least, most in check.expected_statuses
        )
        yield (
            f"  health      GET {check.path}{host} at each endpoint's port every {check.interval_s:g} s, "
            f"{statuses} expected within {check.timeout_s:g} s; "
            f"unhealthy threshold {check.unhealthy_threshold}, healthy threshold {check.healthy_threshold}"
        )
    if isinstance(cap, RequestCap):
        yield (
            f"  cap         {cap.max_requests} requests at a time for each endpoint; "
            f"{cap.max_pending} more wait, {cap.pending_timeout_s:g} s at most"
        )


def _describe_endpoint(endpoint: Endpoint, unfit: str) -> str:
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    marks = [f"weight {endpoint.weight}"] if endpoint.weight != 1 else []
    marks += [f"zone {endpoint.zone}"] if endpoint.zone else []
    marks += ["draining"] if endpoint.draining else []
    marks += [unfit] if unfit else []
    return f"{address}:{endpoint.port}{' (' + ', '.join(marks) + ')' if marks else ''}"


def _asks_budget(policy: RoutePolicy) -> bool:
    """Whether anything is retried for which the retry budget is asked."""
    if policy.next_upstream_tries == 1 or "off" in policy.next_upstream:
        return False
    return any(condition == "timeout" or condition.startswith("http_") for condition in policy.next_upstream)


def _spell(candidate: Candidate) -> str:
    host = candidate.host or "(any host)"
    if candidate.default:
        return f"default backend of {host}"
    return f"{candidate.route.path_type} {host}{candidate.route.path}"


def _describe_policy(route: Route, policy: RoutePolicy) -> str:
    body = "any size" if policy.body_bytes is None else f"{policy.body_bytes} bytes"
    times = f"{policy.connect_timeout_s:g}/{policy.send_timeout_s:g}/{policy.read_timeout_s:g} s"
    retries = f"{policy.next_upstream_tries} tries on {' '.join(sorted(policy.next_upstream)) or 'nothing'}"
    name = route.policy or "process-wide"
    return f"{name}: body {body}, connect/send/read {times}, {retries}"


def _policy(route: Route, units: Mapping[str, Unit]) -> RoutePolicy:
    unit = units.get(f"policy/{route.policy}")
    if isinstance(unit, RoutePolicy):
        return unit
    return RoutePolicy(failed_closed=f"policy {route.policy}") if route.policy else RoutePolicy()


def _process(units: Mapping[str, Unit]) -> ProcessPolicy:
    unit = units.get("process")
    return unit if isinstance(unit, ProcessPolicy) else ProcessPolicy()


def _certificate(host: str, units: Mapping[str, Unit]) -> str:
    """The certificate that a client which asks for the host gets."""
    _, dot, parent = host.partition(".")
    for name in (host, f"*.{parent}" if dot else "", ""):
        unit = units.get(f"tls/{name}")
        if isinstance(unit, TlsHost):
            found = units.get(f"certificate/{unit.certificate}") if unit.certificate is not None else None
            if isinstance(found, Certificate):
                return f"{found.name} for {', '.join(found.names)} ({found.origin})"
            break
    return "self-signed"


class _Hosts:
    """The hosts of a snapshot, as client certificates ask for them."""

    def __init__(self, hosts: Mapping[str, VirtualHost]) -> None:
        self._hosts = hosts

    def has(self, host: bytes) -> bool:
        return host.decode(errors="replace") in self._hosts

    def knows(self, host: bytes) -> bool:
        _, dot, parent = host.decode(errors="replace").partition(".")
        return self.has(host) or f"*{dot}{parent}" in self._hosts

    def takes_misses(self, leaf: object) -> bool:
        everybody = self._hosts.get("")
        return everybody is not None and everybody.default is leaf


def _guards(vhosts: Mapping[str, VirtualHost], units: Mapping[str, Unit]) -> ClientGuards:
    """Which certificates hosts ask of clients."""
    wishes = {unit.host.encode(): unit for unit in units.values() if isinstance(unit, ClientCertificates)}
    authorities = {unit.name: unit for unit in units.values() if isinstance(unit, ClientAuthority)}
    return ClientGuards(wishes, authorities, _Hosts(vhosts), possible=True)


def _describe_clients(policy: ClientPolicy, units: Mapping[str, Unit]) -> str:
    if policy.closed:
        return f"everybody is answered {policy.closed}: {policy.fault} ({policy.unit.origin})"
    unit = policy.unit
    authority = units.get(f"authority/{unit.authority}")
    parts = [f"certificates {unit.verify}{f' by {unit.authority}' if unit.authority else ''}"]
    if unit.verify != "off":
        parts.append(f"depth {unit.depth}")
        parts += ["revocations looked up"] if isinstance(authority, ClientAuthority) and authority.crl_pem else []
        parts += [f"subject must match {unit.match_cn}"] if unit.match_cn else []
        parts += [f"others redirected to {unit.error_page}"] if unit.error_page else []
        parts += ["passed to the upstream"] if unit.pass_certificate else []
    return f"{', '.join(parts)} ({unit.origin})"


def _without_route(host: str, path: str, vhosts: Mapping[str, VirtualHost], *, process: ProcessPolicy) -> str:
    _, _, parent = host.partition(".")
    if path == process.health_path and host not in vhosts and f"*.{parent}" not in vhosts and "" not in vhosts:
        return f"200, as {path} of a host that nothing matches is for load balancers' probes"
    return "404, no rule and no default backend takes it"
