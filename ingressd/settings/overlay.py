"""Command-line flags and environment variables of our own, laid over the file: flag > variable > file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ingressd.settings.config import ConfigProblem
from ingressd.settings.nearest import did_you_mean
from ingressd.settings.yaml_reader import KeyPath, resolve

PREFIX: Final = "INGRESSD_"
# What kubelet sets for a Service whose name begins with "ingressd" in our namespace (INGRESSD_PORT_80_TCP=tcp://…).
_SERVICE_LINK: Final = re.compile(
    r"(?:\w*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)\w*)?)\Z"
)


class Option(NamedTuple):
    """A flag `--name` and its variable; `path` is the file's key that it wins over, () for a command's own flag."""

    name: str
    path: KeyPath
    about: str
    is_path: bool = False
    is_list: bool = False
    is_number: bool = False

    @property
    def variable(self) -> str:
        """The environment variable: INGRESSD_ and the name in capitals."""
        return PREFIX + self.name.upper().replace("-", "_")


OPTIONS: Final = (
    Option("workers", ("workers",), "number of workers", is_number=True),
    Option("admin-address", ("admin", "address"), "address and port of the admin listener"),
    Option("access-log-path", ("accessLog", "path"), 'access log: a file, "-" for stdout, "" for none', is_path=True),
    Option("access-log-format", ("accessLog", "format"), '"json" or an nginx-style template'),
    Option("log-level", ("log", "level"), "operational log: debug, info, warning or error"),
    Option("log-format", ("log", "format"), "operational log: text or json"),
    Option("ingress-class-name", ("ingressClass", "name"), "name of our IngressClass"),
    Option("ingress-class-controller", ("ingressClass", "controller"), "controller whose IngressClasses are ours"),
    Option("settings-config-map", ("settingsConfigMap",), "ConfigMap (namespace/name) that acts like `settings`"),
    Option("zone", ("zone",), "zone this proxy runs in"),
    Option("manifests", ("manifests",), "files and folders, separated by commas", is_path=True, is_list=True),
    Option("kubernetes-namespaces", ("kubernetes", "namespaces"), "namespaces to read, by commas", is_list=True),
    Option("admission-address", ("admission", "address"), "address and port of the admission webhook"),
    Option("admission-cert-file", ("admission", "certFile"), "its certificate", is_path=True),
    Option("admission-key-file", ("admission", "keyFile"), "its key", is_path=True),
)
COMMAND_OPTIONS: Final = (
    Option("config", (), "the configuration file"),
    Option("strict", (), "warnings fail the check"),
    Option("admin", (), "admin listener of a running instance to ask"),
    Option("method", (), "method of the request to explain"),
    Option("header", (), "field of the request to explain"),
)


def command_value(name: str, *, environ: Mapping[str, str], flag: str | None) -> str | None:
    """The value of a command's own flag (`config`, …): what was given, else its variable, else None."""
    return flag if flag is not None else environ.get(Option(name, (), "").variable)


def lay_over(
    values: dict[str, Any], *, environ: Mapping[str, str], flags: Mapping[str, str]
) -> tuple[dict[str, Any], dict[KeyPath, str], list[ConfigProblem]]:
    """The file's values with variables and flags laid over them, who set which path, and what was unknown.

    Relative paths in flags and variables start from the current directory.
    """
    variables = {option.variable for option in (*OPTIONS, *COMMAND_OPTIONS)}
    names = [option.name for option in (*OPTIONS, *COMMAND_OPTIONS)]
    problems = [
        ConfigProblem(name, f"unknown variable{did_you_mean(name, sorted(variables))}")
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in variables and not _SERVICE_LINK.match(name.removeprefix(PREFIX))
    ]
    problems += [
        ConfigProblem(f"--{name}", f"unknown flag{did_you_mean(name, names)}") for name in flags if name not in names
    ]
    origins: dict[KeyPath, str] = {}
    for option in OPTIONS:
        for source, key, origin in (
            (environ, option.variable, option.variable),
            (flags, option.name, f"--{option.name}"),
        ):
            if key in source:
                values = _set(values, option.path, _meant(option, source[key]))
                origins[option.path] = origin
    return values, origins, problems


def _meant(option: Option, text: str) -> Any:
    if option.is_list:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [os.path.abspath(part) for part in parts] if option.is_path else parts
    if option.is_path:
        return os.path.abspath(text) if text not in ("", "-") else text
    return resolve(text) if option.is_number else text


def _set(values: dict[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    key, *rest = path
    inner = values.get(str(key))
    if rest:
        value = _set(inner if isinstance(inner, dict) else {}, tuple(rest), value)
    return {**values, str(key): value}
