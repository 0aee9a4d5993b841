"""kubernetes-asyncio without its generated models.

`import kubernetes_asyncio.config` runs the `__init__` of the whole package, which loads 850 modules of models and API
classes: 37 MiB and 0.2 s, for four modules that we want. So those four are loaded under stand-ins for the two packages
around them, and the stand-ins leave `sys.modules` afterwards: whoever imports the package later gets all of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple

log = logging.getLogger("ingressd.cluster")

_PACKAGE: Final = "kubernetes_asyncio"


class Library(NamedTuple):
    """What we use of kubernetes-asyncio; `kube_config` and `incluster_config` are its modules of these names.

    `forget_files` removes the files that it made of certificates and keys written into a kubeconfig.
    """

    configuration: Any
    rest_client: Any
    kube_config: Any
    incluster_config: Any
    config_error: type[Exception]
    forget_files: Callable[[], None]


@functools.cache
def load_library() -> Library:
    """Load it, once a process. Its own log lines are left out: whatever fails is raised, and told by us once."""
    logging.getLogger(_PACKAGE).setLevel(logging.CRITICAL)
    if _PACKAGE not in sys.modules:
        try:
            return _slim()
        except (ImportError, AttributeError) as error:
            log.warning("kubernetes-asyncio is not built as we know it, and is loaded with its models: %s", error)
    return _parts()


def _slim() -> Library:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("there is no such package", name=_PACKAGE)
    folder = spec.submodule_search_locations[0]
    client = f"{_PACKAGE}.client"
    try:
        for name, path in ((_PACKAGE, folder), (client, f"{folder}/client")):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [path]
        configuration = importlib.import_module(f"{client}.configuration").Configuration
        # Named at import by `config`, whose functions that make one we do not call.
        vars(sys.modules[client]).update(Configuration=configuration, ApiClient=object)
        return _parts()
    finally:
        for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]


def _parts() -> Library:
    # It looks for the home folder at import, and users of containers may have none anywhere.
    os.environ.setdefault("HOME", "/")  # noqa: TID251 - the library reads it, and nothing of ours does
    kube_config = importlib.import_module(f"{_PACKAGE}.config.kube_config")
    return Library(
        configuration=importlib.import_module(f"{_PACKAGE}.client.configuration").Configuration,
        rest_client=importlib.import_module(f"{_PACKAGE}.client.rest").RESTClientObject,
        kube_config=kube_config,
        incluster_config=importlib.import_module(f"{_PACKAGE}.config.incluster_config"),
        config_error=kube_config.ConfigException,
        # Not public there; its own call comes at the end of the process, and not at all when that is killed.
        forget_files=kube_config._cleanup_temp_files,
    )
