from ingressd.observe.counters cimport WorkerCounters
from ingressd.proxy.upstream.connection cimport UpstreamConnection


cdef class PoolLimits:
    cdef public double age_s
    cdef public object buffer_bytes
    cdef public long connections
    cdef public double idle_s
    cdef public long requests


cdef class IdleRoom:
    cdef public long count
    cdef public object crowded


cdef class IdlePool:
    cdef WorkerCounters _counters
    cdef IdleRoom _room
    cdef bint _shut
    cdef bint _suspect
    cdef public bint closed
    cdef public list idle
    cdef public PoolLimits limits
    cdef public double trusted_from_s
    cpdef UpstreamConnection take(self, str server_name)
    cpdef release(self, UpstreamConnection connection, double now)
