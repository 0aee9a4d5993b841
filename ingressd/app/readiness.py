"""What SIGTERM does to readiness, which differs between a cluster and everywhere else."""

from __future__ import annotations

from collections.abc import Callable


class Readiness:
    """Until when a draining ingressd still says that it is ready.

    Standalone, whoever balances us only has `/readyz` to go by, so it says no at once. In a cluster the deleted Pod has
    left its Service anyway, and what still arrives during the drain delay comes by the rule for terminating endpoints,
    which takes only those that are ready (KEP-1669): saying no at once would refuse what we are there to serve.
    """

    def __init__(self, *, in_cluster: bool, clock: Callable[[], float]) -> None:
        self._in_cluster = in_cluster
        self._clock = clock
        self._until_s: float | None = None

    def drain(self, grace_s: float) -> None:
        """SIGTERM came; listeners go on accepting for `grace_s`. Only the first call counts."""
        if self._until_s is None:
            self._until_s = self._clock() + (grace_s if self._in_cluster else 0.0)

    def allowed(self) -> bool:
        """May `/readyz` say yes, as far as draining goes?"""
        return self._until_s is None or self._clock() < self._until_s
