"""What has been translated and not been published yet, because a source is still asking for something."""

from __future__ import annotations

from ingressd.control.objects.event import ObjectKey
from ingressd.control.translate.translation import Translation
from ingressd.model.codec import Units


class Held:
    """Several translations as one: the last, with the changes of all."""

    def __init__(self) -> None:
        self._last: Translation | None = None
        self._because: frozenset[ObjectKey] = frozenset()

    def __bool__(self) -> bool:
        return self._last is not None

    def add(self, translation: Translation, because: frozenset[ObjectKey]) -> None:
        """One more, after those before."""
        last = self._last
        if last is not None:
            changed = {**last.changed.wire, **translation.changed.wire}
            for key in translation.removed:
                changed.pop(key, None)
            removed = {*last.removed, *translation.removed} - changed.keys()
            translation = translation._replace(
                changed=Units(changed), removed=tuple(sorted(removed)), told=last.told | translation.told
            )
        self._last = translation
        self._because |= because

    def take(self) -> tuple[Translation, frozenset[ObjectKey]]:
        """All of it, and the objects because of which. Something must be held."""
        last, because = self._last, self._because
        assert last is not None
        self._last, self._because = None, frozenset()
        return last, because
