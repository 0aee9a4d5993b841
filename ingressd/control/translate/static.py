"""Static routes and certificates to drafts, so that they meet Ingresses on equal terms."""

from __future__ import annotations

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.static import StaticListener, StaticRoute, StaticTls
from ingressd.control.translate.annotations.client_certificates import ClientsDraft
from ingressd.control.translate.drafts import ObjectDraft, Rank, RouteDraft, StaticBackend, TlsDraft
from ingressd.control.translate.validate import plain_path
from ingressd.model.problem import Origin
from ingressd.model.units import Listener


def draft_route(key: ObjectKey, static: StaticRoute) -> ObjectDraft:
    """The draft of an entry of `routes`."""
    origin = Origin("Config", "", "routes", key.name)
    route = RouteDraft(
        "Exact" if static.path_type == "Exact" else "Prefix",
        plain_path(static.path or "/", path_type=static.path_type),
        StaticBackend(static.upstream),
        origin,
    )
    return ObjectDraft(key, Rank(False, 0.0, "", key.name), hosts={static.host.lower(): (route,)})


def draft_tls(key: ObjectKey, static: StaticTls, *, names: tuple[str, ...]) -> ObjectDraft:
    """The draft of an entry of `tls`. `names` are those of the certificate, which stand in for `hosts` left out."""
    origin = Origin("Config", "", "tls", key.name)
    listed = bool(static.hosts)
    wish = TlsDraft((static_certificate(key.name),), listed, origin, "tls")
    hosts = static.hosts if listed else tuple(name for name in names if ":" not in name)
    rank = Rank(False, 0.0, "", key.name)
    return ObjectDraft(key, rank, tls={host.lower(): wish for host in hosts}, clients=_clients(key, static))


def _clients(key: ObjectKey, static: StaticTls) -> ClientsDraft | None:
    clients = static.clients
    if clients is None:
        return None
    return ClientsDraft(
        verify=clients.verify,
        authority=static_certificate(key.name),
        depth=clients.depth,
        error_page=clients.error_page,
        pass_certificate=clients.pass_certificate,
        match_cn=clients.match_cn,
        covers=True,
        fault=clients.fault,
        field="clientCertificate",
    )


def static_certificate(name: str) -> str:
    """Name of the certificate unit of an entry of `tls`."""
    return f"/{name}"


def listener_unit(static: StaticListener, *, proxy_protocol: bool) -> Listener:
    """The unit of an entry of `listeners`: the outside sees 443 for HTTPS, and the bound port for HTTP."""
    return Listener(
        name=static.name,
        host=static.host,
        port=static.port,
        protocol=static.protocol,
        declared_port=443 if static.protocol == "HTTPS" else static.port,
        proxy_protocol=proxy_protocol,
    )
