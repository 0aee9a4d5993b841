cimport cython


cdef class RouteSeries:
    cdef public tuple labels
    cdef public dict cells
    cdef WorkerCounters _owner
    cdef object __weakref__
    @cython.locals(cell=list, bucket=long)
    cpdef add(self, bytes method, long status, double duration_s, double upstream_s, received_bytes, sent_bytes)


cdef class WorkerCounters:
    cdef public long long connections
    cdef public long long connections_idle
    cdef public long long connections_upgraded
    cdef public long long accepted
    cdef public long long rejected
    cdef public long long requests
    cdef public long long tls_handshakes
    cdef public long long tls_resumed
    cdef public long long tls_failures
    cdef public long long proxy_headers_refused
    cdef public long long bad_requests
    cdef public long long pool_opened
    cdef public long long pool_reused
    cdef public long long pool_closed
    cdef public long long pool_idle
    cdef public long long connect_failures
    cdef public long long framing_faults
    cdef public long long retries
    cdef public long long retries_refused
    cdef public long long queued
    cdef public long long queue_length
    cdef public long long queue_full
    cdef public long long queue_timeouts
    cdef public long long ejections
    cdef public long long shed
    cdef public long long memory_held_bytes
    cdef public long long memory_budget_bytes
    cdef public long long log_lines
    cdef public long long log_lines_dropped
    cdef public double loop_lag_s
    cdef public double loop_lag_max_s
    cdef public double loop_lag_worst_s
    cdef public long long loop_stalls
    cdef public long long tasks
    cdef object _series
    cdef dict _sent
    cdef long _room
    cdef RouteSeries _overflow
