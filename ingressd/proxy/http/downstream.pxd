from ingressd.protocol.h1 cimport RequestHead
from ingressd.proxy.runtime.worker cimport Worker

cdef class Downstream:
    cdef public Worker worker
    cdef public object transport
    cdef public str peer_ip
    cdef public bytes port
    cdef public bint tls
    cdef public long bytes_sent
    cdef public long head_bytes_sent
    cdef public bint writing_paused
    cdef public double deadline_s
    cdef public long wheel_slot
    cdef public double wheel_at_s
    cpdef write_head(self, RequestHead head, bytes start, long length, bytes body, long flags)
    cpdef write_body(self, bytes data, bint end)
    cpdef set_deadline(self, double at_s)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
