"""Who of several replicas writes: a Lease of coordination.k8s.io/v1, as client-go's leader election uses it.

In: answers of the API server and a monotonic clock. Out: whether we lead at this moment, and word when that changes.
May import: `sources.cluster.api`, `settings`, asyncio. Blind to `status`, which asks through a callable.
"""
