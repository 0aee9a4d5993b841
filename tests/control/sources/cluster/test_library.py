"""kubernetes-asyncio in the small, and in a process of its own, since what is imported stays."""

import subprocess
import sys

import pytest

SLIM = """
import sys
from ingressd.control.sources.cluster.library import load_library
library = load_library()
assert load_library() is library
print(len([name for name in sys.modules if name.startswith("kubernetes_asyncio")]))
configuration = library.configuration()
print(configuration.verify_ssl)
import kubernetes_asyncio.client
print(kubernetes_asyncio.client.V1Ingress.__name__)
"""

WHOLE = """
import kubernetes_asyncio.client
from ingressd.control.sources.cluster.library import load_library
print(load_library().configuration is kubernetes_asyncio.client.Configuration)
"""

RESIDENT = """
import aiohttp, msgspec, yaml
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
before = resident()
from ingressd.control.sources.cluster.library import load_library
load_library()
print(resident() - before)
"""


HOMELESS = """
import os, pwd
os.environ.pop("HOME", None)
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
from ingressd.control.sources.cluster.library import load_library
print(load_library().config_error.__name__)
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_the_models_are_not_loaded_and_whoever_wants_them_later_gets_them():
    assert run(SLIM) == ["0", "True", "V1Ingress"]


def test_a_library_that_is_loaded_already_is_used():
    assert run(WHOLE) == ["True"]


def test_a_user_without_a_home_can_load_it():
    assert run(HOMELESS) == ["ConfigException"]


def test_it_costs_a_few_megabytes():
    assert int(run(RESIDENT)[0]) < 10


@pytest.mark.parametrize("module", ["ingressd.app.control_loop", "ingressd.app.controller", "ingressd.app.worker"])
def test_nobody_loads_it_before_a_cluster_is_configured(module):
    code = f"import sys, {module}; print([n for n in sys.modules if n.startswith('kubernetes_asyncio')])"
    assert run(code) == ["[]"]
