from ingressd.observe.counters cimport WorkerCounters
from ingressd.proxy.upstream.budget cimport RetryBudget
from ingressd.proxy.upstream.outbox cimport Outbox
from ingressd.proxy.upstream.pool cimport IdleRoom, PoolLimits


cdef class UpstreamGroup:
    cdef object _clock
    cdef object _columns
    cdef object _contexts
    cdef WorkerCounters _counters
    cdef object _health
    cdef Outbox _outbox
    cdef object _own_column
    cdef object _random
    cdef IdleRoom _room
    cdef object _share
    cdef public object balancer
    cdef public RetryBudget budget
    cdef public object context
    cdef public dict endpoints
    cdef public PoolLimits limits
    cdef public object queue
    cdef public object unit
