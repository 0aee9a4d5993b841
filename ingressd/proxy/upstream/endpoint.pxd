cdef class EndpointState:
    cdef public str address
    cdef public long port
    cdef public long base
    cdef public object columns
    cdef public long current_weight
    cdef public bint draining
    cdef public double ejected_until
    cdef public double ewma_at
    cdef public double ewma_s
    cdef public long failures
    cdef public str name
    cdef public bint on_trial
    cdef public object pool
    cdef public object queue
    cdef public object ring_points
    cdef public long weight
