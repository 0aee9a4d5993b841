cimport cython

from ingressd.protocol.h1 cimport RequestHead


cdef class Forwarded:
    cdef public str client_ip
    cdef public bytes forwarded_scheme
    cdef public RequestHead head
    cdef public bytes host
    cdef public bytes lines
    cdef public bytes request_id
    cdef public bytes scheme


cdef class _Peer:
    cdef public str client_ip
    cdef public bytes forwarded_scheme
    cdef public bytes scheme
    cdef public bytes tail


cdef class Forwarder:
    cdef bint _compute_full
    cdef bytes _forwarded_for
    cdef bint _generate
    cdef bytes _ids
    cdef object _left_out
    cdef tuple _networks
    cdef dict _peers
    cdef long _position
    cdef bint _proxy_protocol
    cdef object _random
    cdef bint _simple
    cdef bint _trust_address
    cdef bint _trust_rest
    cdef dict _trusted
    cdef bytes _via
    cdef dict _real_ips
    @cython.locals(peer=_Peer)
    cpdef Forwarded forward(self, RequestHead head, str peer_ip, bint tls, bytes port)
