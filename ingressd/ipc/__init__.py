"""What our processes say to each other, sans-I/O where bytes are concerned.

`orders`: supervisor and its children, JSON in datagrams that may carry sockets; standard library only, because the
supervisor reads them. `frames` and `messages`: controller and workers, length-prefixed MessagePack over a private pair
of sockets that the supervisor made for just these two. In: orders and messages. Out: bytes, and back. May import:
`model`, `observe`, msgspec.
"""
