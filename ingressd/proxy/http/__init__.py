"""HTTP exchanges: the client's connection, the exchange, the relay, the retry law, errors, the access log line.

In: bytes of clients and answers of `proxy.upstream`. Out: canonical bytes both ways, one access log record an exchange.
May import: `proxy.runtime` and what is below it.
"""
