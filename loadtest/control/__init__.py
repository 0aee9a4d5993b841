"""Speed of change: how soon, how safely and at what price a change in a cluster reaches the traffic.

In: an ingressd build. It is given a fake API server (`tests/stage/apiserver`), pods that answer with their own
address, and a client with a kept-alive connection to every worker. Out: `results/control.json`, tables, the section of
`docs/performance.md`. The tests are those of howardjohn/gateway-api-bench, written for Ingress: route probe, route
change, route scale, backend failover.
"""
