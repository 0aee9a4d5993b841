cdef class RetryBudget:
    cdef long _cell
    cdef object _columns
    cdef long _current
    cdef double _next
    cdef object _own
    cdef long _published
    cdef list _requests
    cdef list _retries
    cdef double _share
    cdef double _window_minimum
    cdef long _window_requests
    cpdef count_request(self, double now)
    cpdef bint take(self, double now) except -1
