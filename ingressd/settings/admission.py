"""Where the validating webhook listens, once flags are laid over the file."""

from __future__ import annotations

import os

from ingressd.settings.config import AdmissionConfig, Config
from ingressd.settings.flags import parse_flags


def admission_of(config: Config) -> AdmissionConfig | None:
    """The admission listener there should be, None for none. Each `validating-webhook` flag wins over its key.

    A malformed flag counts as unset here and is reported with the others. A path may still be "": the flags name an
    address and nobody names the file.
    """
    flags, _ = parse_flags(config.flags)
    base = config.admission
    address = flags.validating_webhook or ((base.host, base.port) if base else None)
    if address is None:
        return None
    return AdmissionConfig(
        host=address[0],
        port=address[1],
        cert_file=_file(config, flags.validating_webhook_certificate) or (base.cert_file if base else ""),
        key_file=_file(config, flags.validating_webhook_key) or (base.key_file if base else ""),
    )


def _file(config: Config, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(config.path), path)) if path else ""
