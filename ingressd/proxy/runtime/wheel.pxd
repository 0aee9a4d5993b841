cdef class TimerWheel:
    cdef long _at
    cdef list _slots
    cdef double _start_s
    cpdef schedule(self, timed)
    cpdef remove(self, timed)
    cpdef advance(self, double now)
