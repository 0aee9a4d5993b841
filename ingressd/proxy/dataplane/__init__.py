"""One worker's data plane: takes deltas, swaps the runtime, compiles hosts when they are asked for, owns listeners and
the timer tick.

In: `Delta`s and listening sockets. Out: served traffic, refused units by key, numbers. Imported by `app` only.
"""
