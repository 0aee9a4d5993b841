"""Health checks: one prober for the pod. Which endpoints are probed and when, and what follows from the answers.

In: units as they are published, answers of probes (a callable does the I/O), ejections of workers in the shared table.
Out: verdicts in the controller's column of the table, where every worker reads them.
May import: `model`, `observe`, `settings`, asyncio. Blind to `proxy`: whoever wires it brings the probe.
"""
