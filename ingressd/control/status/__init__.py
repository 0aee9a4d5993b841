"""What we write into the cluster about objects: their status, and Events for what is wrong with them.

In: statuses that every worker serves, problems, and whether we lead. Out: patches of `/status` and Events, only what
differs, only as leader, at a bounded rate, and never in the way of a change. May import: `sources.cluster`, `store`,
`translate.addresses`, `objects`, `model`, `settings`, asyncio. Blind to `leader`: it asks through a callable.
"""
