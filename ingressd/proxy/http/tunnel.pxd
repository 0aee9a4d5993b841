from ingressd.proxy.http.attempts cimport Attempts


cdef class Tunnel(Attempts):
    cdef public object bytes_received
    cdef public long status
    cpdef finish(self, double now)
