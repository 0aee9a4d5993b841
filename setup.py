"""Compile the hot modules from the same Python source where Cython and a C compiler are at hand.

The extensions are optional: without a compiler, or with INGRESSD_PURE=1, the package installs and runs pure.
"""

import os

from setuptools import Extension, setup

HOT = [
    "ingressd/protocol/h1.py",
]


def extensions() -> list[Extension]:
    if os.environ.get("INGRESSD_PURE"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    modules = [
        Extension(path.removesuffix(".py").replace("/", "."), [path], optional=True, extra_compile_args=["-O2"])
        for path in HOT
        if os.path.exists(path)
    ]
    return cythonize(modules, language_level=3, build_dir="build/cython")


setup(ext_modules=extensions())
