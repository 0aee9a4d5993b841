"""The frozen units of a snapshot: what should be, as values.

In: plain values. Out: units, deltas, problems, and one codec for wire, goldens, `check` and `/debug/snapshot`.
May import: `observe`, `settings`, msgspec. No I/O, no clock.
"""
