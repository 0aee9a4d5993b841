cimport cython

from ingressd.protocol.limits cimport HeadLimits as Limits  # h1 hands HeadLimits on as a Python name.


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


@cython.locals(
    lines=list, first=bytes, fields=list, line=bytes, version=long, kind=long, known=dict, request=RequestHead, rare=list
)
cpdef RequestHead parse_request_head(bytes head, Limits limits)

@cython.locals(lines=list)
cdef list _lines(bytes head, Limits limits)

@cython.locals(
    lines=list, first=bytes, fields=list, line=bytes, kind=long, known=dict, response=ResponseHead, special=dict
)
cdef ResponseHead _parse_response(bytes head, bytes method, Limits limits)
cdef _frame(ResponseHead response, bytes method)
