"""The one loop of the controller: batches of events → store → translate → deltas to every worker.

In: batches of sources, acknowledgements and counters of workers, news of the supervisor. Out: deltas, orders, what is
acknowledged, problems and statuses for whoever shows them. May import: `sources`, `translate`, `store`, `objects`,
`ipc`, `model`, `observe`. All of the control plane's waiting is here; `fleet`, `quarantine` and `slots` are pure.
"""
