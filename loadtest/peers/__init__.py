"""The proxies that are compared, one file each.

In: a `Place`. Out: the command to start; config files are written into the place's folder. Everyone has one worker, an
access log to a file, metrics on, kept-alive connections to the backend, the forwarding headers that ingress-nginx sets,
and the same certificate. May import `loadtest.launch` and `loadtest.micro.command`.
"""
