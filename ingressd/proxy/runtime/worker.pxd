from ingressd.observe.counters cimport WorkerCounters
from ingressd.proxy.runtime.wheel cimport TimerWheel
from ingressd.proxy.upstream.outbox cimport Outbox


cdef class Worker:
    cdef public object access_log
    cdef public set arrivals
    cdef public object buffer
    cdef public set clients
    cdef public object clock
    cdef public long long[::1] column
    cdef public WorkerCounters counters
    cdef public object current
    cdef public bytes date_line
    cdef public bint draining
    cdef public long log_lines_lost
    cdef public object loop
    cdef public object memory
    cdef public Outbox outbox
    cdef public object random
    cdef public object shedding
    cdef public double wall_offset_s
    cdef public TimerWheel wheel
