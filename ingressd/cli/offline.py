"""Read everything once and translate it, as `run` would: what `check` and `explain` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ingressd.control.objects.event import Position, key_of_origin
from ingressd.control.objects.static import StaticUpstream
from ingressd.control.sources.batch import SourceBatch
from ingressd.control.sources.local import locate, read_config, read_manifests
from ingressd.control.store.store import Store
from ingressd.control.translate.tls_hosts import expired
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator
from ingressd.model.problem import Problem
from ingressd.model.units import Certificate
from ingressd.settings.config import Config


class Offline(NamedTuple):
    """`config` None: the configuration file is refused as a whole, and the problems say why.

    `unresolved` are the endpoints of static upstreams that are names, as "name:port", by the upstream's unit name.
    """

    config: Config | None
    translation: Translation
    problems: tuple[Problem, ...]
    objects: int
    unresolved: dict[str, list[str]]


def translate_config(path: str, *, environ: Mapping[str, str], flags: Mapping[str, str], now_s: float) -> Offline:
    """Read a configuration file and all it names. `now_s` (seconds since 1970) is for expired certificates."""
    return _translate(read_config(path, environ=environ, flags=flags), path, now_s=now_s)


def translate_manifests(paths: Sequence[str], *, now_s: float) -> Offline:
    """Read manifest files and folders, without a configuration."""
    return _translate(read_manifests(paths), "", now_s=now_s)


def _translate(batch: SourceBatch, config_path: str, *, now_s: float) -> Offline:
    store = Store()
    store.apply(batch.events)
    translation = Translator().translate(store.snapshot(), None)
    certificates = [unit for unit in translation.units.values() if isinstance(unit, Certificate)]
    found = [*translation.problems, *expired(certificates, now_s)]
    located = [_locate(problem, store, config_path) for problem in found]
    problems = tuple(sorted({*batch.problems, *located}, key=_by_place))
    unresolved = {
        f"/{event.object.name}": [f"{one.host}:{one.port}" for one in event.object.endpoints if one.addresses is None]
        for event in batch.events
        if isinstance(event.object, StaticUpstream)
    }
    return Offline(batch.config, translation, problems, len(batch.events), unresolved)


def _locate(problem: Problem, store: Store, config_path: str) -> Problem:
    """The problem with the file and line of its field."""
    if problem.file:
        return problem
    position = store.position(key_of_origin(problem.origin))
    field = problem.field
    if position is None and problem.origin.kind == "Config" and config_path:
        position, field = Position(config_path), problem.origin.name
    if position is None:
        return problem
    file, line = locate(position, field)
    return msgspec.structs.replace(problem, file=file, line=line)


def _by_place(problem: Problem) -> tuple[str, int, Problem]:
    return (problem.file, problem.line, problem)
