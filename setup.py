"""Compile the hot modules from the same Python source where Cython and a C compiler are at hand.

The extensions are optional: without a compiler, or with INGRESSD_PURE=1, the package installs and runs pure.
"""

import os

from setuptools import Extension, setup

HOT = [
    "ingressd/filters/gzip.py",
    "ingressd/filters/hsts.py",
    "ingressd/filters/request_headers.py",
    "ingressd/filters/response_headers.py",
    "ingressd/filters/ssl_redirect.py",
    "ingressd/observe/access_log.py",
    "ingressd/observe/access_log_format.py",
    "ingressd/observe/counters.py",
    "ingressd/protocol/chunked.py",
    "ingressd/protocol/fields.py",
    "ingressd/protocol/h1.py",
    "ingressd/protocol/limits.py",
    "ingressd/proxy/http/attempts.py",
    "ingressd/proxy/http/client.py",
    "ingressd/proxy/http/downstream.py",
    "ingressd/proxy/http/ending.py",
    "ingressd/proxy/http/exchange.py",
    "ingressd/proxy/http/placing.py",
    "ingressd/proxy/http/retry.py",
    "ingressd/proxy/http/tunnel.py",
    "ingressd/proxy/listener/acceptor.py",
    "ingressd/proxy/routing/normalise.py",
    "ingressd/proxy/routing/table.py",
    "ingressd/proxy/runtime/forwarded.py",
    "ingressd/proxy/runtime/overload.py",
    "ingressd/proxy/runtime/runtime.py",
    "ingressd/proxy/runtime/wheel.py",
    "ingressd/proxy/runtime/worker.py",
    "ingressd/proxy/tls/server.py",
    "ingressd/proxy/tls/transport.py",
    "ingressd/proxy/upstream/balancers/base.py",
    "ingressd/proxy/upstream/balancers/round_robin.py",
    "ingressd/proxy/upstream/budget.py",
    "ingressd/proxy/upstream/connection.py",
    "ingressd/proxy/upstream/endpoint.py",
    "ingressd/proxy/upstream/group.py",
    "ingressd/proxy/upstream/outbox.py",
    "ingressd/proxy/upstream/pool.py",
]


def extensions() -> list[Extension]:
    if os.environ.get("INGRESSD_PURE"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    modules = [
        Extension(path.removesuffix(".py").replace("/", "."), [path], optional=True, extra_compile_args=["-O2", "-g0"])
        for path in HOT
        if os.path.exists(path)
    ]
    # Types are in the .pxd files beside the sources: an annotation `int` there would mean a Python object.
    directives = {"annotation_typing": False}
    return cythonize(modules, language_level=3, build_dir="build/cython", compiler_directives=directives)


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count()}})
