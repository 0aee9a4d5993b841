"""What is known of one key of ingress-nginx's ConfigMap."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ingressd.settings.values import Parser

Group = Literal["process", "route", "upstream", "special", "not built", "nginx only"]


class Setting(NamedTuple):
    """One key. `default` is as it would be written; `field` is a field of the model, with a dot for a nested one.

    `as_we_do` are values of a key that is not built which ask for what we do anyway, and so are no problem. With
    `guards`, leaving the key out of account, be it malformed or not built, would open what it should close: every route
    then answers 503.
    """

    key: str
    default: str
    about: str
    group: Group
    field: str = ""
    parse: Parser | None = None
    ours: bool = False
    as_we_do: tuple[str, ...] = ()
    guards: bool = False
