"""ingress-nginx's command-line flags, in `flags` of the file: parsed, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingressd.settings.configmap import SettingProblem


class ProcessFlags(msgspec.Struct, frozen=True):
    """The switches. None is "not set"; references are "namespace/name".

    `disable_svc_external_name` is on unless the flag says false: an ExternalName reaches wherever its author likes.
    """

    ingress_class: str | None = None
    controller_class: str | None = None
    watch_ingress_without_class: bool = False
    ingress_class_by_name: bool = False
    watch_namespace: str = ""
    default_backend_service: str | None = None
    default_ssl_certificate: str | None = None
    disable_catch_all: bool = False
    disable_svc_external_name: bool = True
    publish_status_address: tuple[str, ...] = ()
    update_status: bool = True
    configmap: str | None = None


def parse_flags(
    values: Mapping[str, str], *, last_good: Mapping[str, str] | None = None
) -> tuple[ProcessFlags, tuple[SettingProblem, ...]]:
    """Parse `flags`. A malformed value falls back to that of `last_good`, else to the default."""
    raise NotImplementedError


def flags_reference() -> str:
    """The table of all flags as Markdown, for docs/settings.md."""
    raise NotImplementedError
