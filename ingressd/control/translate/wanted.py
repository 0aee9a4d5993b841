"""Which Secrets and ConfigMaps the snapshot looks at."""

from __future__ import annotations

from ingressd.control.objects.event import ObjectKey
from ingressd.control.translate.book import Dirty, DraftBook
from ingressd.control.translate.environment import Environment
from ingressd.control.translate.tls_hosts import certificate_key


class Wanted:
    """Their keys, existing or not. `keys` is the same object for as long as nothing comes and nothing goes."""

    def __init__(self) -> None:
        self.keys: frozenset[ObjectKey] = frozenset()
        self._secrets: set[ObjectKey] = set()
        self._config_maps: frozenset[ObjectKey] = frozenset()
        self._moved = True

    def reset(self) -> None:
        """Forget what is used: every certificate that is will be dirty next time."""
        self._secrets.clear()
        self._moved = True

    def refresh(self, book: DraftBook, environment: Environment, *, dirty: Dirty) -> None:
        """Look again at the dirty certificates and at the environment."""
        moved = self._moved or self._config_maps != environment.config_maps
        self._config_maps = environment.config_maps
        for name in dirty.certificates:
            key = certificate_key(name)
            named = name in book.by_certificate or name in book.by_authority
            used = named or name == environment.default_certificate
            if key.kind == "Secret" and used != (key in self._secrets):
                moved = True
                (self._secrets.add if used else self._secrets.discard)(key)
        if moved:
            keys = self._config_maps.union(self._secrets)
            self.keys = self.keys if keys == self.keys else keys
            self._moved = False
