from ingressd.protocol.h1 cimport RequestHead
from ingressd.proxy.http.downstream cimport Downstream
from ingressd.proxy.http.exchange cimport Exchange


cdef class ClientConnection(Downstream):
    cdef object _body_left
    cdef object _body_window_bytes
    cdef double _body_window_s
    cdef bint _chunked_answer
    cdef object _decoder
    cdef bint _eof
    cdef Exchange _exchange
    cdef bint _keep
    cdef double _last_bytes_s
    cdef double _opened_s
    cdef bytearray _pending
    cdef bint _pumping
    cdef bint _reading_paused
    cdef long _scanned
    cdef long _served
    cdef object _unsent_bytes
    cdef public str listener
    cdef public object peer_port
    cdef public long phase
    cpdef data_received(self, bytes data)
    cdef _receive_head(self, data)
    cdef _receive_body(self, bytes data, long start)
    cdef _write(self, bytes data)
    cdef _answered(self)
    cdef _next_request(self, double now)
