cdef class RequestHead:
    cdef public bytes method
    cdef public bytes target
    cdef public bytes path
    cdef public bytes host
    cdef public long version
    cdef public list fields
    cdef public dict special
    cdef public object content_length
    cdef public bint chunked
    cdef public bint keep_alive
    cdef public bint expect_continue
    cdef public bytes upgrade
    cdef public bytes user_agent
    cdef public bytes referer
    cdef public bytes accept_encoding
    cdef public bint te_trailers


cdef class ResponseHead:
    cdef public long status
    cdef public bytes reason
    cdef public long version
    cdef public list fields
    cdef public dict special
    cdef public object content_length
    cdef public bint chunked
    cdef public long framing
    cdef public bint keep_alive
    cdef public bytes upgrade
    cdef public bytes content_type
    cdef public bytes content_encoding
    cdef public object options
    cdef public object coding
