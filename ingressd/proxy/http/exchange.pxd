from ingressd.protocol.h1 cimport RequestHead, ResponseHead
from ingressd.proxy.http.downstream cimport Downstream
from ingressd.proxy.runtime.forwarded cimport Forwarded
from ingressd.proxy.runtime.runtime cimport CompiledRoute, Runtime
from ingressd.proxy.runtime.worker cimport Worker
from ingressd.proxy.upstream.connection cimport ResponseHandler, UpstreamConnection
from ingressd.proxy.upstream.endpoint cimport EndpointState


cdef class Exchange(ResponseHandler):
    cdef long _base
    cdef object _body_seen
    cdef object _connect
    cdef UpstreamConnection _connection
    cdef EndpointState _endpoint
    cdef bint _fresh
    cdef bytes _message
    cdef list _replay
    cdef long _replay_bytes
    cdef bint _request_ended
    cdef ResponseHead _response
    cdef bint _sent
    cdef object _transform
    cdef list _tried
    cdef long _tries
    cdef public bint answering
    cdef public object bytes_received
    cdef public Downstream client
    cdef public object error
    cdef public Forwarded forwarded
    cdef public bint framed
    cdef public RequestHead head
    cdef public bytes host
    cdef public bytes path
    cdef public CompiledRoute route
    cdef public Runtime runtime
    cdef public double started_s
    cdef public long status
    cdef public bint tunnelling
    cdef public str upstream_addr
    cdef public double upstream_s
    cdef public double upstream_started_s
    cdef public long upstream_status
    cdef public Worker worker
    cpdef begin(self, bytes payload, bint ended)
    cdef bytes _request_message(self, RequestHead head, bytes forwarding, bytes upgrade)
    cdef bytes _upgrade(self, RequestHead head, CompiledRoute route)
    cdef _attempt(self, double now)
    cdef EndpointState _next_endpoint(self, double now)
    cdef _take(self, EndpointState endpoint)
    cdef _leave(self)
    cdef _send(self, UpstreamConnection connection, double now)
    cdef bytes _response_start(self, ResponseHead response)
    cdef _release(self, UpstreamConnection connection, double now)
    cdef _log(self, long status, double now, double duration_s)
    cpdef finish(self, double now)
