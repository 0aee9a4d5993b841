from ingressd.proxy.http.downstream cimport Downstream
from ingressd.proxy.http.exchange cimport Exchange


cdef class Ending(Downstream):
    cdef bint _chunked_answer
    cdef object _decoder
    cdef bint _eof
    cdef Exchange _exchange
    cdef double _last_bytes_s
    cdef bytearray _pending
    cdef bint _reading_paused
    cdef object _unsent_bytes
    cdef public long phase
    cdef _write(self, bytes data)
