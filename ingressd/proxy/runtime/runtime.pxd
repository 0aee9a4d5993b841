from ingressd.observe.counters cimport RouteSeries
from ingressd.proxy.runtime.forwarded cimport Forwarder
from ingressd.proxy.upstream.group cimport UpstreamGroup
from ingressd.protocol.limits cimport HeadLimits


cdef class CompiledRoute:
    cdef public object body_bytes
    cdef public bint closes_upstream
    cdef public double connect_timeout_s
    cdef public object failed_closed
    cdef public UpstreamGroup group
    cdef public str label
    cdef public bint log
    cdef public object policy
    cdef public double read_timeout_s
    cdef public tuple request_filters
    cdef public tuple response_filters
    cdef public RouteSeries series
    cdef public long status
    cdef public double unheard_s
    cdef public object upgrades
    cdef public str upstream_name


cdef class Runtime:
    cdef public double body_timeout_s
    cdef public long buffer_bytes
    cdef public Forwarder forwarder
    cdef public object guards
    cdef public double head_timeout_s
    cdef public bytes health_path
    cdef public dict hosts
    cdef public long long keep_alive_requests
    cdef public double keep_alive_s
    cdef public HeadLimits limits
    cdef public tuple own_filters
    cdef public object process
    cdef public HeadLimits response_limits
    cdef public double send_timeout_s
    cdef public object table
    cdef public long version
    cpdef bytes host_of(self, bytes raw)
