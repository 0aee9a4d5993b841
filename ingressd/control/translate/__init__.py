"""Objects to snapshot units, statuses and problems.

In: a view of the store and the keys that changed. Out: a `Translation`. Pure: no clock, no I/O, the same answer
whatever the order objects came in. Each object becomes a draft (memoised by the object itself), drafts are merged into
units, and only units whose drafts changed are made again. May import: `store`, `objects`, `model`, `settings`.
"""
