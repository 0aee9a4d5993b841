"""What many measurements say together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from loadtest.control.load import percentile


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """Mean, median, 99th percentile and greatest of some times."""
    ordered = sorted(milliseconds)
    return {
        "count": len(ordered),
        "mean_ms": statistics.fmean(ordered) if ordered else 0.0,
        "p50_ms": percentile(ordered, 0.5),
        "p99_ms": percentile(ordered, 0.99),
        "max_ms": percentile(ordered, 1.0),
    }
