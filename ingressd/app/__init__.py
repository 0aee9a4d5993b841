"""What each process is made of: the supervisor with its commands to start children, the controller, a worker.

In: command-line flags and the configuration file's path. Out: an exit code. May import everything but `cli`; but
`worker` stays clear of `control`, aiohttp, cryptography and the Kubernetes client, which would double a worker's
memory.
"""
