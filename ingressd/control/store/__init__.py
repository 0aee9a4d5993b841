"""The current objects by key, the last good version of each, and the indexes translation needs.

In: object events. Out: which keys really changed, and cheap immutable views. May import: `objects`. No I/O, no clock.
"""
