"""Everything the files say, put together, and what differs from what they said before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from ingressd.control.objects.event import AnyObject, ObjectEvent, ObjectKey, Position
from ingressd.control.objects.static import Flags, ProcessSettings
from ingressd.control.sources.manifests import ManifestContents, ManifestReader, duplicate, file_problem
from ingressd.control.sources.signatures import Signatures, files_in, look
from ingressd.control.sources.static import KIND_OF_ENTRY, as_problem, static_objects, watched_files
from ingressd.model.problem import Origin, Problem
from ingressd.settings.config import Config, LoadedConfig

Placed = tuple[AnyObject, Position]
_NAMESPACE: Final = "watch-namespace"


class World(NamedTuple):
    """All objects at one moment, where each was read from, and all problems."""

    objects: dict[ObjectKey, Placed]
    problems: tuple[Problem, ...] = ()


def read_bytes(path: str) -> bytes:
    """The bytes of a file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def look_at(config: Config) -> Signatures:
    """The signatures of everything a configuration names, and of the file itself."""
    own = [config.path] if config.path else []
    return look([*own, *watched_files(config)], config.manifests)


def build_world(
    loaded: LoadedConfig,
    config: Config,
    *,
    before: World,
    manifests: ManifestReader,
    answers: Mapping[str, tuple[str, ...]] | None,
) -> World:
    """Read what `config`, the configuration in force, names. `loaded` is what came of the file last read.

    What is refused now keeps the object it had in `before`.
    """
    problems = [as_problem(found) for found in loaded.problems]
    if loaded.config is None and before.objects:
        message = "this version of the file is refused; the one before goes on serving"
        problems.append(Problem("warning", Origin("Config", "", ""), "LastGoodKept", "", message, config.path))
    static = static_objects(config, read=read_bytes, answers=answers)
    problems += static.problems
    objects = dict(static.objects)
    _keep_refused_entries(loaded, objects, before=before)
    for key in static.refused:
        if key in before.objects:
            objects[key] = before.objects[key]
    kept: dict[ObjectKey, Placed] = {}
    files: set[str] = set()
    for contents in _manifest_contents(config, manifests, files, problems):
        problems += contents.problems
        for key, placed in contents.objects.items():
            if key in objects:
                problems.append(duplicate(key, objects[key][1], by=placed[1]))
            objects[key] = placed
        for key in contents.refused:
            if key in before.objects:
                kept[key] = before.objects[key]
    manifests.forget_others(files)
    _keep_of_broken_files(files, manifests, kept, before=before)
    return World({**kept, **objects}, tuple(problems))


def difference(before: World, after: World) -> tuple[ObjectEvent, ...]:
    """The events that lead from one world to the next: deletions first, then what is new or different, in key order."""
    events = [ObjectEvent(key, None) for key in sorted(before.objects.keys() - after.objects.keys())]
    changed = []
    for key, placed in after.objects.items():
        old = before.objects.get(key)
        if old is None or (old[0] is not placed[0] and old[0] != placed[0]) or old[1] != placed[1]:
            changed.append(key)
    events += [ObjectEvent(key, *after.objects[key]) for key in sorted(changed)]
    return tuple(events)


def restart_problems(config: Config, started: Config) -> tuple[Problem, ...]:
    """Changes that only a restart brings into effect."""
    changed = [
        field for field in ("workers", "admin", "kubernetes") if getattr(config, field) != getattr(started, field)
    ]
    if config.kubernetes is not None and config.flags.get(_NAMESPACE) != started.flags.get(_NAMESPACE):
        changed.append(_NAMESPACE)  # What is served follows at once; what is watched does not.
    message = "changed, and takes effect with the next start"
    return tuple(
        Problem(
            "warning",
            Origin("Config", "", "flags" if field == _NAMESPACE else field),
            "RestartRequired",
            field,
            message,
            config.path,
        )
        for field in changed
    )


def name_problems(config: Config, errors: Mapping[str, str]) -> tuple[Problem, ...]:
    """Static endpoints whose names do not resolve; the last answer is kept."""
    return tuple(
        Problem(
            "warning",
            Origin("Config", "", "upstreams", upstream.name),
            "NameNotResolved",
            "endpoints",
            f"{host} does not resolve: {errors[host]}; its last answer, if there was one, is kept",
        )
        for upstream in config.upstreams
        for host in sorted({endpoint.host for endpoint in upstream.endpoints} & errors.keys())
    )


def _manifest_contents(
    config: Config, manifests: ManifestReader, files: set[str], problems: list[Problem]
) -> list[ManifestContents]:
    """The contents of all manifest files in order; a file named twice is read once."""
    out = []
    signatures = look((), config.manifests)
    for root in config.manifests:
        if root not in signatures:
            problems.append(file_problem(root, "there is no such file or folder", reason="ManifestNotFound"))
        for file in files_in(root, signatures):
            if file in files:
                continue
            files.add(file)
            try:
                out.append(manifests.read(file, read_bytes(file)))
            except OSError as exc:
                message = f"cannot be read: {exc.strerror or exc}"
                problems.append(file_problem(file, message, reason="FileUnreadable"))
                last = manifests.last(file)
                if last is not None:
                    out.append(last)
    return out


def _keep_of_broken_files(
    files: set[str], manifests: ManifestReader, kept: dict[ObjectKey, Placed], *, before: World
) -> None:
    """An object that is no longer in a file with a broken document may be in that document: it stays."""
    broken = {file for file in files if (last := manifests.last(file)) is not None and last.broken}
    if broken:
        for key, placed in before.objects.items():
            if placed[1].file in broken:
                kept.setdefault(key, placed)


def _keep_refused_entries(loaded: LoadedConfig, objects: dict[ObjectKey, Placed], *, before: World) -> None:
    """Entries of the file that are refused keep what they had.

    A refused entry may not even say its name, so while one of `routes` is refused no route of before goes away.
    """
    refused = {problem.entry for problem in loaded.problems if problem.entry and problem.severity == "error"}
    kinds = {KIND_OF_ENTRY.get(entry.partition(".")[0].partition("[")[0]) for entry in refused}
    for key, placed in before.objects.items():
        if key.kind in kinds:
            objects.setdefault(key, placed)
    for top, key in (
        ("settings", ObjectKey("ProcessSettings", "", "settings")),
        ("flags", ObjectKey("Flags", "", "flags")),
    ):
        names = {entry.removeprefix(top + ".") for entry in refused if entry.startswith(top + ".")}
        old = before.objects.get(key)
        if names and old is not None:
            value, position = objects[key]
            objects[key] = (_with_old_values(value, old[0], names), position)


def _with_old_values(value: AnyObject, old: AnyObject, names: set[str]) -> AnyObject:
    if isinstance(value, (ProcessSettings, Flags)) and isinstance(old, (ProcessSettings, Flags)):
        kept = {name: text for name, text in old.values.items() if name in names}
        return msgspec.structs.replace(value, values={**value.values, **kept})
    return value
