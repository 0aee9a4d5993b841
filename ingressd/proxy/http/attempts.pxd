from ingressd.proxy.http.placing cimport Placing
from ingressd.proxy.runtime.runtime cimport Runtime
from ingressd.proxy.upstream.connection cimport UpstreamConnection


cdef class Attempts(Placing):
    cdef object _connect
    cdef UpstreamConnection _connection
    cdef bint _fresh
    cdef bytes _message
    cdef list _replay
    cdef long _replay_bytes
    cdef bint _request_ended
    cdef bint _sent
    cdef long _tries
    cdef public bint answering
    cdef public object error
    cdef public Runtime runtime
    cdef public double started_s
    cdef public bint tunnelling
    cdef public str upstream_addr
    cdef public double upstream_s
    cdef public double upstream_started_s
    cdef public long upstream_status
    cdef _send(self, UpstreamConnection connection, double now)
