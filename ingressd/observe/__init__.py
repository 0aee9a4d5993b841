"""What is measured and said: the shared table, counters of workers, metrics, logs.

In: numbers from the hot path, counters sent by workers, log calls. Out: cells that every process reads, the exposition
of `/metrics`, log lines. May import: the standard library, msgspec; `metrics` and nothing else prometheus-client
(workers must never load it). `shared_table` and `operational_log` are standard library only, for the supervisor.
"""
