"""For what the operator has objects refused, whatever they are otherwise."""

from __future__ import annotations

import msgspec

from ingressd.control.objects.kubernetes import Ingress
from ingressd.control.translate.annotations.known import PREFIX
from ingressd.control.translate.drafts import ObjectDraft
from ingressd.model.problem import Origin, Problem


def without_blocked_words(draft: ObjectDraft, ingress: Ingress, words: tuple[str, ...]) -> ObjectDraft:
    """Refuse an object that has one of `annotation-value-word-blocklist` in an annotation of ours."""
    if not words:
        return draft
    origin = Origin("Ingress", draft.key.namespace, draft.key.name)
    problems = tuple(
        Problem("error", origin, "AnnotationRefused", key, f"the value contains {word!r}, which is not allowed here")
        for key, value in sorted(ingress.metadata.annotations.items())
        if key.startswith(PREFIX)
        for word in words
        if word in value
    )
    return _refused(draft, problems, as_well=True) if problems else draft


def without_catch_all(draft: ObjectDraft) -> ObjectDraft:
    """Leave out an object with a default backend: ingress-nginx leaves out the whole object, not only the backend."""
    if draft.default is None:
        return draft
    message = "flag disable-catch-all leaves out objects with a default backend"
    origin = msgspec.structs.replace(draft.default.origin, rule="")
    problem = Problem("error", origin, "CatchAllDisabled", "spec.defaultBackend", message)
    return _refused(draft, (problem,), as_well=draft.refused)


def _refused(draft: ObjectDraft, problems: tuple[Problem, ...], *, as_well: bool) -> ObjectDraft:
    return ObjectDraft(
        draft.key,
        draft.rank,
        failed_closed=draft.failed_closed,
        clients=draft.clients,
        left_out=True,
        refused=as_well,
        problems=(*draft.problems, *problems),
    )
