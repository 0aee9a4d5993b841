"""One worker's data plane: takes deltas, swaps the runtime, owns listeners and the timer tick.

In: `Delta`s and listening sockets. Out: served traffic, refused units by key, numbers. Imported by `app` only.
"""
