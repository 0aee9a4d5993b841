"""Events on their way from the reflectors to the sink."""

from __future__ import annotations

import asyncio

from ingressd.control.objects.event import AnyObject, ObjectEvent, ObjectKey


class Outbox:
    """What is new since it was last emptied, each object once. While the sink is slow it holds one event an object, and
    never more."""

    def __init__(self) -> None:
        self._events: dict[ObjectKey, ObjectEvent] = {}
        self._news = asyncio.Event()

    def put(self, key: ObjectKey, value: AnyObject | None) -> None:
        """An object is as it says now, or (None) gone."""
        # What came and went again is told in the order of the last news of each object.
        self._events.pop(key, None)
        self._events[key] = ObjectEvent(key, value)
        self._news.set()

    def stir(self) -> None:
        """Something else is new: problems, or what is complete."""
        self._news.set()

    def __bool__(self) -> bool:
        return bool(self._events)

    async def wait_for_news(self) -> None:
        """Until something came since the last time."""
        await self._news.wait()
        self._news.clear()

    def empty(self) -> tuple[ObjectEvent, ...]:
        """All of it."""
        events = tuple(self._events.values())
        self._events.clear()
        return events
