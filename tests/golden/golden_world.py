"""What a golden's input says, read by the sources themselves, and what its output shows.

An input is YAML: Kubernetes objects, and at most one document without `kind`, which is the configuration file. A
document `then: WORDS` ends one state of the world and begins the next, which replaces it whole; the output is that of
the last.
`{{cert:NAME}}`, `{{key:NAME}}` (base64) and `{{file:NAME.crt}}` (a path) stand for the files in pems/.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ingressd.control.objects.event import ObjectEvent
from ingressd.control.sources.local import read_config
from ingressd.control.store.store import Store, StoreView
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator
from ingressd.model.codec import to_json
from ingressd.model.problem import Problem

PEMS = Path(__file__).parent / "pems"


def _placeholders() -> dict[str, str]:
    found = {}
    for path in sorted(PEMS.iterdir()):
        kind = {".crt": "cert", ".key": "key"}[path.suffix]
        found[f"{{{{{kind}:{path.stem}}}}}"] = base64.b64encode(path.read_bytes()).decode()
        found[f"{{{{file:{path.name}}}}}"] = str(path)
    return found


PLACEHOLDERS = _placeholders()


def states_of(text: str) -> list[tuple[dict[str, Any], list[Any]]]:
    """The states of a golden's input: configuration and objects of each."""
    for name, content in PLACEHOLDERS.items():
        text = text.replace(name, content)
    states: list[tuple[dict[str, Any], list[Any]]] = [({}, [])]
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        if "then" in document:
            states.append(({}, []))
        elif "kind" in document:
            states[-1][1].append(document)
        else:
            states[-1][0].update(document)
    return states


def read_state(
    config: dict[str, Any], objects: list[Any], folder: Path
) -> tuple[tuple[ObjectEvent, ...], tuple[Problem, ...]]:
    """One state's events and what its sources have to say, read from files like any other."""
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))
    (folder / "config.yaml").write_text(yaml.safe_dump({"manifests": ["objects.yaml"], **config}))
    batch = read_config(str(folder / "config.yaml"), environ={}, flags={})
    return batch.events, batch.problems


class World:
    """A store and a translator that go through the states of an input."""

    def __init__(self) -> None:
        self.store = Store()
        self.translator = Translator()
        self.keys: set[Any] = set()

    def become(self, events: tuple[ObjectEvent, ...]) -> Translation:
        """Replace all objects by those of `events`, and translate what changed."""
        keys = {event.key for event in events}
        gone = [ObjectEvent(key, None) for key in sorted(self.keys - keys)]
        self.keys = keys
        changed = self.store.apply([*events, *gone])
        translation = self.translator.translate(self.store.snapshot(), changed)
        self.store.accept(translation.accepted)
        return translation

    def view(self) -> StoreView:
        """The objects of now."""
        return self.store.snapshot()


def shown(translation: Translation, source_problems: tuple[Problem, ...], folder: Path) -> str:
    """The output of a golden: units that an empty configuration does not have, statuses, problems; all in order."""
    empty = json.loads(to_json(Translator().translate(Store().snapshot(), None).units))
    units = json.loads(to_json(translation.units))
    units = {key: unit for key, unit in units.items() if empty.get(key) != unit}
    for key in ("process", "policy/"):
        if key in units:
            units[key] = {name: value for name, value in units[key].items() if empty[key].get(name, ...) != value}
    problems = [str(_placeless(problem)) for problem in (*source_problems, *translation.problems)]
    statuses = {str(key): status for key, status in translation.statuses.items()}
    text = json.dumps({"units": units, "statuses": statuses, "problems": problems}, ensure_ascii=False)
    for name, content in PLACEHOLDERS.items():
        text = text.replace(content, name)
    output = json.loads(text.replace(str(folder), "FOLDER"))
    # In order only now: where this repository lies must not decide what comes first.
    output["problems"] = sorted(set(output["problems"]))
    return json.dumps(output, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _placeless(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, file="", line=0)


def comparable(translation: Translation) -> tuple[Any, ...]:
    """What must not depend on the way a state was reached."""
    return (dict(translation.units), list(translation.problems), dict(translation.statuses))
