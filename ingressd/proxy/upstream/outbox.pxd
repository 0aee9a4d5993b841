cdef class Outbox:
    cdef object _loop
    cdef long _written
    cdef list _pending
    cdef bint _scheduled
    cdef public object crowded
    cpdef write(self, transport, bytes data)
    cpdef flush(self)
