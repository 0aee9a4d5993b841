"""Nanoseconds a pick, per balancer: `python tests/proxy/upstream/balancers/bench.py`."""

from __future__ import annotations

from random import Random
from timeit import repeat

from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.upstream.balancers.table import BALANCERS
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.outlier import PodHealth

PICKS = 100_000


def main() -> None:
    """Print one line for each balancer and number of endpoints."""
    table = SharedTable.create(2)
    empty = min(repeat(lambda: None, number=PICKS, repeat=3))
    for name, make in BALANCERS.items():
        for count, weights in ((1, (1,)), (2, (1,)), (3, (1,)), (3, (1, 2, 3)), (20, (1,))):
            balancer = make(Random(1), health=PodHealth.of(table, 0))
            balancer.update(
                [
                    EndpointState(
                        f"10.0.0.{index}",
                        80,
                        weight=weights[index % len(weights)],
                        base=table.base(index + 1),
                        columns=table.columns(),
                    )
                    for index in range(count)
                ]
            )
            pick = balancer.pick
            best = min(repeat(lambda pick=pick: pick(b"/foo/bar", 1.0), number=PICKS, repeat=3)) - empty
            kind = "weighted" if len(weights) > 1 else "equal"
            print(f"{name:14} {count:3} endpoints, {kind:8} {best / PICKS * 1e9:6.0f} ns")
    table.close()


if __name__ == "__main__":
    main()
