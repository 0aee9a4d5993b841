from ingressd.protocol.h1 cimport RequestHead
from ingressd.proxy.http.downstream cimport Downstream
from ingressd.proxy.runtime.forwarded cimport Forwarded
from ingressd.proxy.runtime.runtime cimport CompiledRoute, Runtime
from ingressd.proxy.runtime.worker cimport Worker
from ingressd.proxy.upstream.connection cimport ResponseHandler, UpstreamConnection
from ingressd.proxy.upstream.endpoint cimport EndpointState
from ingressd.proxy.upstream.group cimport UpstreamGroup


cdef class Attempts(ResponseHandler):
    cdef long _base
    cdef object _connect
    cdef UpstreamConnection _connection
    cdef EndpointState _endpoint
    cdef bint _fresh
    cdef bytes _message
    cdef object _queue
    cdef list _replay
    cdef long _replay_bytes
    cdef bint _request_ended
    cdef bint _sent
    cdef list _tried
    cdef long _tries
    cdef public bint answering
    cdef public Downstream client
    cdef public object error
    cdef public Forwarded forwarded
    cdef public RequestHead head
    cdef public bytes host
    cdef public CompiledRoute route
    cdef public Runtime runtime
    cdef public double started_s
    cdef public bint tunnelling
    cdef public str upstream_addr
    cdef public double upstream_s
    cdef public double upstream_started_s
    cdef public long upstream_status
    cdef public Worker worker
    cpdef _attempt(self, double now)
    cdef EndpointState _next_endpoint(self, double now)
    cdef _begin(self, UpstreamGroup group, EndpointState endpoint, double now)
    cdef _take(self, EndpointState endpoint)
    cpdef _leave(self)
    cdef _send(self, UpstreamConnection connection, double now)
