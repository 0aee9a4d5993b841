"""Read everything once and translate it, as `run` would: what `check` and `explain` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ingressd.control.admission.webhook import invalid_pair
from ingressd.control.objects.event import ObjectEvent, Position, key_of_origin
from ingressd.control.objects.static import StaticAdmission, StaticUpstream
from ingressd.control.pipeline.places import with_lines
from ingressd.control.sources.batch import SourceBatch
from ingressd.control.sources.local import locate, read_config, read_manifests
from ingressd.control.store.store import Store
from ingressd.control.translate.tls_hosts import expired
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator
from ingressd.model.problem import Problem
from ingressd.model.units import Certificate
from ingressd.proxy.tls.contexts import webhook_context
from ingressd.settings.config import Config

_NOT_FOUND: Final = frozenset(
    {"CertificateNotFound", "ConfigMapNotFound", "IngressClassNotFound", "ParametersNotFound", "ServiceNotFound"}
)
"""Reasons that say nothing where the cluster may know the object that the files do not have."""


class Offline(NamedTuple):
    """`config` None: the configuration file is refused as a whole, and the problems say why.

    `unchecked` are references to objects that only the cluster knows, when there is one: nothing is wrong with them.
    `unresolved` are the endpoints of static upstreams that are names, as "name:port", by the upstream's unit name.
    """

    config: Config | None
    translation: Translation
    problems: tuple[Problem, ...]
    unchecked: tuple[Problem, ...]
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
    found = [*translation.problems, *expired(certificates, now_s), *_invalid_pairs(batch.events)]
    located = {*batch.problems, *_locate(found, store, config_path)}
    in_cluster = batch.config is not None and batch.config.kubernetes is not None
    unchecked = {problem for problem in located if in_cluster and problem.reason in _NOT_FOUND}
    unresolved = {
        f"/{event.object.name}": [f"{one.host}:{one.port}" for one in event.object.endpoints if one.addresses is None]
        for event in batch.events
        if isinstance(event.object, StaticUpstream)
    }
    return Offline(
        batch.config,
        translation,
        problems=tuple(sorted(located - unchecked, key=_by_place)),
        unchecked=tuple(sorted(unchecked, key=_by_place)),
        objects=len(batch.events),
        unresolved=unresolved,
    )


def _invalid_pairs(events: Iterable[ObjectEvent]) -> Iterator[Problem]:
    for event in events:
        if isinstance(event.object, StaticAdmission):
            try:
                webhook_context(event.object.cert_pem, event.object.key_pem)
            except ValueError as error:
                yield invalid_pair(str(error))


def _locate(problems: Iterable[Problem], store: Store, config_path: str) -> Iterator[Problem]:
    """The problems with the file and line of their fields."""
    unplaced: dict[Position, list[Problem]] = {}
    for problem in problems:
        position = None if problem.file else store.position(key_of_origin(problem.origin))
        if position is not None:
            unplaced.setdefault(position, []).append(problem)
        elif not problem.file and problem.origin.kind == "Config" and config_path:
            (line,) = locate(Position(config_path), [problem.origin.name])
            yield msgspec.structs.replace(problem, file=config_path, line=line)
        else:
            yield problem
    for position, here in unplaced.items():
        yield from with_lines(here, position, locate)


def _by_place(problem: Problem) -> tuple[str, int, Problem]:
    return (problem.file, problem.line, problem)
