cdef class Outbox:
    cdef object _loop
    cdef list _pending
    cdef bint _scheduled
    cpdef write(self, transport, bytes data)
    cpdef flush(self)
