cdef class HeadLimits:
    cdef public long request_line_bytes
    cdef public long field_line_bytes
    cdef public long head_bytes
    cdef public long max_fields
    cdef public bint underscores
    cdef public bint drop_invalid
    cdef public dict requests
    cdef public dict responses
    cdef public dict names
