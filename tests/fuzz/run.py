"""Fuzz the codec from the command line, as long as you like; the seed repeats a run.

    python tests/fuzz/run.py --executions 1000000 --seed 7 [--target request]

On a failure it prints the input as a Python literal: put it into `tests/fuzz/test_promises_hold.py` before the fix.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.exchanges import ExchangeChecker
from fuzz.mutate import CHUNKED, CLIENT_HELLOS, PROXY_HEADERS, REQUESTS, RESPONSES, ROUTED, Mutator
from fuzz.targets import Checker

TARGETS = {
    "request": REQUESTS,
    "response": RESPONSES,
    "chunked": CHUNKED,
    "client_hello": CLIENT_HELLOS,
    "proxy_header": PROXY_HEADERS,
    "exchange": ROUTED,
    "answer": RESPONSES,
}


def checker_of(target: str, *, seed: int, slow_oracle_every: int = 1) -> Checker | ExchangeChecker:
    """What checks this target."""
    kind = ExchangeChecker if hasattr(ExchangeChecker, target) else Checker
    return kind(seed=seed, slow_oracle_every=slow_oracle_every)


def fuzz(target: str, executions: int, *, seed: int, slow_oracle_every: int = 10) -> Checker | ExchangeChecker:
    """Run one target; raises what the check raised, with the input in its notes."""
    checker = checker_of(target, seed=seed, slow_oracle_every=slow_oracle_every)
    check: Callable[[bytes], None] = getattr(checker, target)
    mutator = Mutator(TARGETS[target], seed=seed)
    try:
        for number in range(executions):
            data = mutator.next()
            try:
                check(data)
            except Exception as error:
                error.add_note(f"{target}, seed {seed}, execution {number}: {data!r}")
                raise
    finally:
        checker.close()
    return checker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--executions", type=int, default=1_000_000, help="in all, shared by the targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(TARGETS), help="default: all of them in turn")
    options = parser.parse_args()
    targets = [options.target] if options.target else list(TARGETS)
    for target in targets:
        started = time.monotonic()
        share = options.executions // len(targets)
        checker = fuzz(target, share, seed=options.seed)
        print(
            f"{target}: {share} executions, {checker.accepted} messages accepted, {checker.refused} inputs refused, "
            f"{time.monotonic() - started:.0f} s"
        )


if __name__ == "__main__":
    main()
