from ingressd.protocol.h1 cimport ResponseHead
from ingressd.proxy.upstream.outbox cimport Outbox


cdef class ResponseHandler:
    cpdef on_response(self, UpstreamConnection connection, ResponseHead head, bytes body, bint end)
    cpdef on_response_body(self, UpstreamConnection connection, bytes body, bint end)


cdef class UpstreamConnection:
    cdef object _buffer
    cdef object _decoder
    cdef bint _eof
    cdef bint _finished
    cdef ResponseHead _head
    cdef bytes _held
    cdef object _high_water
    cdef long _interims
    cdef object _left
    cdef object _limits
    cdef bytes _method
    cdef Outbox _outbox
    cdef bint _poisoned
    cdef object _queue
    cdef bint _reading_paused
    cdef bint _request_ended
    cdef long _scanned
    cdef bint _unsent
    cdef public bint faulty
    cdef public ResponseHandler handler
    cdef public double idle_since_s
    cdef public object on_lost
    cdef public double opened_s
    cdef public long requests
    cdef public bint reused
    cdef public double round_trip_s
    cdef public str server_name
    cdef public long state
    cdef public object transport
    cpdef send(self, ResponseHandler handler, bytes method, bytes message, bint end)
    cpdef write(self, bytes data)
    cpdef retire(self)
    cpdef send_body(self, bytes data, bint end)
    cpdef data_received(self, bytes data)
    cdef _receive_head(self, bytes data)
    cdef _receive_body(self, bytes data, long start)
    cdef _begin_body(self, ResponseHead head, bytes data, long start)
    cdef _ended(self)
    cpdef close(self)
