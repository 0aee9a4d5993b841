"""TLS: the only place that sets TLS options.

In: ciphertext from accepted or opened connections, the units `Certificate`, `TlsHost`, `ProcessPolicy.tls` and
`UpstreamTls`. Out: transports that speak plaintext to the protocol above them. May import: `protocol`, `model`.
"""
