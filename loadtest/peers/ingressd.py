"""ingressd itself, by its contract: `run --config FILE`, one worker, JSON access log to a file, admin listener on."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import Any

from loadtest.launch import MissingError, Place


def config(place: Place) -> dict[str, Any]:
    """The configuration file. JSON is YAML."""
    return {
        "workers": 1,
        "listeners": [
            {"name": "http", "address": f"127.0.0.1:{place.http_port}", "protocol": "HTTP"},
            {"name": "https", "address": f"127.0.0.1:{place.https_port}", "protocol": "HTTPS"},
        ],
        "admin": {"address": f"127.0.0.1:{place.admin_port}"},
        "accessLog": {"path": str(place.access_log), "format": "json"},
        "settings": {"ssl-redirect": "false"},
        "routes": [{"host": "localhost", "path": "/", "pathType": "Prefix", "upstream": "bench"}],
        "upstreams": {"bench": {"endpoints": [f"127.0.0.1:{place.backend_port}"]}},
        "tls": [{"hosts": ["localhost"], "certFile": str(place.cert_file), "keyFile": str(place.key_file)}],
    }


def command(place: Place, *, build: str) -> list[str]:
    """The command to start one build, given as a shell would take it. Missing when there is no such program."""
    argv = shlex.split(build)
    if shutil.which(argv[0]) is None:
        raise MissingError(f"{argv[0]} does not exist")
    path = place.write("ingressd.yaml", json.dumps(config(place), indent=1))
    return [*argv, "run", "--config", str(path)]
