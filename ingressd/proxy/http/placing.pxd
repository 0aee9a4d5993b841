from ingressd.protocol.h1 cimport RequestHead
from ingressd.proxy.http.downstream cimport Downstream
from ingressd.proxy.runtime.forwarded cimport Forwarded
from ingressd.proxy.runtime.runtime cimport CompiledRoute
from ingressd.proxy.runtime.worker cimport Worker
from ingressd.proxy.upstream.connection cimport ResponseHandler
from ingressd.proxy.upstream.endpoint cimport EndpointState
from ingressd.proxy.upstream.group cimport UpstreamGroup


cdef class Placing(ResponseHandler):
    cdef long _base
    cdef EndpointState _endpoint
    cdef object _queue
    cdef list _tried
    cdef public Downstream client
    cdef public Forwarded forwarded
    cdef public RequestHead head
    cdef public bytes host
    cdef public CompiledRoute route
    cdef public Worker worker
    cpdef _attempt(self, double now)
    cdef _begin(self, UpstreamGroup group, EndpointState endpoint, double now)
    cdef EndpointState _next_endpoint(self, double now)
    cdef _take(self, EndpointState endpoint)
    cpdef _leave(self)
