from ingressd.protocol.h1 cimport RequestHead
from ingressd.proxy.http.ending cimport Ending
from ingressd.proxy.http.exchange cimport Exchange


cdef class ClientConnection(Ending):
    cdef object _body_left
    cdef object _body_window_bytes
    cdef double _body_window_s
    cdef bint _keep
    cdef double _opened_s
    cdef bint _pumping
    cdef long _scanned
    cdef long _served
    cdef public str listener
    cdef public object peer_port
    cpdef data_received(self, bytes data)
    cdef _receive_head(self, data)
    cdef _receive_body(self, bytes data, long start)
    cdef _answered(self)
    cdef _next_request(self, double now)
