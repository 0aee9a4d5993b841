"""The supervisor: PID 1 of a pod, parent of one controller and N workers, keeper of every listening socket.

In: signals, orders of the controller, ends of children, heartbeats in the shared table, and what an earlier supervisor
hands on. Out: processes, sockets handed to them, orders, an exit code. May import: `ipc.orders`,
`observe.shared_table`, `observe.operational_log`, the standard library; nothing else, so that it stays small and has
nothing to fail of.
"""
