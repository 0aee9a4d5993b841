from ingressd.protocol.h1 cimport RequestHead, ResponseHead
from ingressd.proxy.http.tunnel cimport Tunnel
from ingressd.proxy.runtime.runtime cimport CompiledRoute
from ingressd.proxy.upstream.connection cimport UpstreamConnection


cdef class Exchange(Tunnel):
    cdef long long _body_seen
    cdef object _transform
    cdef public bint framed
    cdef public bytes path
    cpdef begin(self, bytes payload, bint ended)
    cdef bytes _request_message(self, RequestHead head, bytes forwarding, bytes upgrade)
    cdef bytes _upgrade(self, RequestHead head, CompiledRoute route)
    cdef bytes _response_start(self, ResponseHead response)
    cdef _release(self, UpstreamConnection connection, double now)
    cdef _log(self, long status, double now, double duration_s)
