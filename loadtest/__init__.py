"""Speed, shown side by side: ingressd and its peers on the same machine, in the same run.

In: the programs that are installed (nginx, haproxy, caddy, envoy, wrk, perf or strace) and one or more ingressd builds.
Out: a table, `results/*.json`, a plot, and the tables of `docs/performance.md`. Imports nothing of ingressd: it is
measured from outside only.
"""
