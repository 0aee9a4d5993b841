"""Who we are to the API server, and how it is reached: read by kubernetes-asyncio, and read again as it changes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import yaml

from ingressd.control.sources.cluster.library import Library, load_library
from ingressd.settings.config import KubernetesConfig

EXEC_TIMEOUT_S: Final = 15.0
FRESH_AGAIN_S: Final = 10.0
"""How often an exec plugin may be asked although the token that it gave has not expired."""
MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108 - a file system in memory, and every file in it is made by mkstemp


_USER: Final = re.compile(r"(?<=://)[^\s'\"]*@")


class CredentialsError(Exception):
    """The configuration of the cluster cannot be read."""


class Access(NamedTuple):
    """One reading. `client` is a new RESTClientObject when what a connection depends on is not as it was, else None.
    `authorization` is a secret, and `proxy` may name one."""

    host: str
    authorization: str
    proxy: str | None
    transport: bytes
    client: Any

    def __repr__(self) -> str:
        return f"<Access to {self.host}>"


class Credentials:
    """Reads the service account's files or the kubeconfig. Files are read again each time; a plugin as it says.

    `token_file` and `ca_file` are those of the service account, "" where Kubernetes puts them.
    """

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        token_file: str = "",
        ca_file: str = "",
    ) -> None:
        self._config = config
        self._environ = environ
        self._clock = clock
        self._token_file = token_file
        self._ca_file = ca_file
        self._loader: Any = None
        self._loaded_from: tuple[int, ...] = ()
        self._loaded_at_s = 0.0

    async def read(self, *, refused: bool, transport: bytes) -> Access:
        """Read what is there now. `refused`: the API server does not take the last; `transport`: of the last reading.

        Raises CredentialsError.
        """
        library = load_library()
        try:
            configuration = await self._configuration(library, refused=refused)
            if not configuration.host.startswith(("http://", "https://")):
                raise CredentialsError(f"{self._config.kubeconfig} names no server")
            now = _transport(configuration)
            return Access(
                host=configuration.host,
                # A token file may end in a newline, which no field can hold.
                authorization=str(configuration.api_key.get("BearerToken", "")).strip(),
                proxy=configuration.proxy,
                transport=now,
                client=library.rest_client(configuration) if now != transport else None,
            )
        except TimeoutError:
            raise CredentialsError(f"the exec plugin did not end within {EXEC_TIMEOUT_S:.0f} s") from None
        except yaml.YAMLError as error:
            raise CredentialsError(f"{self._config.kubeconfig} is not YAML{_where(error)}") from None
        except (library.config_error, OSError, aiohttp.ClientError) as error:
            raise CredentialsError(said_by(error)) from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            # What the library raises when a kubeconfig is YAML and nothing else. Its words may quote a token, as above.
            where = self._config.kubeconfig or "the service account"
            raise CredentialsError(f"{where} is malformed ({type(error).__name__})") from None
        finally:
            # Certificates and keys written into a kubeconfig become files, for the time of a reading only.
            library.forget_files()

    async def _configuration(self, library: Library, *, refused: bool) -> Any:
        configuration = library.configuration()
        configuration.connection_pool_maxsize = 0  # Every watch keeps a connection: a limit would be a deadlock.
        # As Go's clients: authorities of clusters often lack what RFC 5280 wants of them.
        configuration.disable_strict_ssl_verification = True
        if not self._config.in_cluster:
            async with asyncio.timeout(EXEC_TIMEOUT_S):
                await self._read_kubeconfig(library, configuration, refused=refused)
            return configuration
        module = library.incluster_config
        module.InClusterConfigLoader(
            token_filename=self._token_file or module.SERVICE_TOKEN_FILENAME,
            cert_filename=self._ca_file or module.SERVICE_CERT_FILENAME,
            # We read again ourselves, on a clock that can be tested, and at once when we are refused.
            try_refresh_token=False,
            environ=self._environ,
        ).load_and_set(configuration)
        return configuration

    async def _read_kubeconfig(self, library: Library, configuration: Any, *, refused: bool) -> None:
        found = os.stat(self._config.kubeconfig)
        file = (found.st_mtime_ns, found.st_size, found.st_ino)
        stale = refused and self._clock() - self._loaded_at_s >= FRESH_AGAIN_S
        if self._loader is not None and not stale and file == self._loaded_from:
            for name in ("cert_file", "key_file"):
                vars(self._loader).pop(name, None)  # It keeps their paths, and the files were forgotten.
            await self._loader.load_and_set(configuration)
            return
        # Forgotten first: a plugin that fails must be asked again.
        self._loader = None
        self._loader = await library.kube_config.load_kube_config(
            config_file=self._config.kubeconfig,
            client_configuration=configuration,
            persist_config=False,
            temp_file_path=MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None,
        )
        self._loaded_from, self._loaded_at_s = file, self._clock()


def said_by(error: Exception) -> str:
    """An error's words without the user and password of a URL in them: proxies are named with both."""
    return _USER.sub("", str(error)) or type(error).__name__


def _where(error: yaml.YAMLError) -> str:
    """Where a text is no YAML, and during what; without PyYAML's words, which quote what it stumbled over."""
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context", None) or ""
    line = f", line {mark.line + 1}" if mark is not None else ""
    return f"{line}, {context}" if context.startswith("while ") else line


def _transport(configuration: Any) -> bytes:
    """A digest of everything that a connection depends on, the content of files included."""
    digest = hashlib.sha256()
    digest.update(repr((configuration.host, configuration.verify_ssl, configuration.tls_server_name)).encode())
    for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        if path:
            with open(path, "rb") as file:
                digest.update(file.read())
        digest.update(b"|")
    return digest.digest()
