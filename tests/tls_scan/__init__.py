"""What sslscan and testssl.sh say about a real ingressd: `make scan-tls`.

In: their reports. Out: the findings that count. Imported by nobody.
"""
