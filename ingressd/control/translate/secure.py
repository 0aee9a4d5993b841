"""Dirty certificates and dirty hosts of certificates to `Certificate` and `TlsHost` units."""

from __future__ import annotations

from collections.abc import Iterable

from ingressd.control.objects.event import ObjectKey
from ingressd.control.store.store import StoreView
from ingressd.control.translate.book import Dirty, DraftBook
from ingressd.control.translate.certificates import CertificateReader
from ingressd.control.translate.environment import Environment
from ingressd.control.translate.ledger import ProblemLedger
from ingressd.control.translate.tls_hosts import CertificateResult, assemble_tls_host, read_certificate
from ingressd.control.translate.translation import Snapshot
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import TlsHost


class CertificateUnits:
    """The certificates that somebody names, read. Keyed by unit name; one goes with the last object that names it."""

    def __init__(self, snapshot: Snapshot, ledger: ProblemLedger, reader: CertificateReader) -> None:
        self._snapshot = snapshot
        self._ledger = ledger
        self._reader = reader
        self._results: dict[str, CertificateResult] = {}

    def refresh(self, view: StoreView, book: DraftBook, environment: Environment, *, dirty: Dirty) -> None:
        """Read the dirty certificates again, and mark the hosts of those that changed."""
        for name in dirty.certificates:
            users = book.by_certificate.get(name)
            before = self._results.pop(name, None)
            result: CertificateResult | None = None
            if users or name == environment.default_certificate:
                result = self._results[name] = read_certificate(view, name, self._reader)
            self._snapshot.put(f"certificate/{name}", result and result.unit)
            self._ledger.say(("certificate", name), result.problems if result else ())
            if result == before:
                continue
            for key in users:
                dirty.tls_hosts.update(book.drafts[key].tls)
            if name == environment.default_certificate:
                dirty.tls_hosts.update(book.by_tls_host, [""])

    def refresh_hosts(self, book: DraftBook, environment: Environment, *, dirty: Dirty) -> None:
        """Choose the certificates of the dirty hosts again."""
        default = self._default(environment)
        for host in dirty.tls_hosts:
            if not host:
                self._snapshot.put("tls/", TlsHost(host="", certificate=default))
                self._ledger.say(("tls", ""), self._default_problems(environment))
                continue
            drafts = book.ranked(book.by_tls_host.get(host))
            problems: list[Problem] = []
            unit: TlsHost | None = None
            if drafts:
                unit, problems = assemble_tls_host(host, drafts, certificates=self._results, default=default)
            self._snapshot.put(f"tls/{host}", unit)
            self._ledger.say(("tls", host), tuple(problems))

    def accepted(self, names: Iterable[str]) -> set[ObjectKey]:
        """The objects of these certificates whose current version is good."""
        keys = {self._results[name].accepted for name in names if name in self._results}
        return {key for key in keys if key is not None}

    def _default(self, environment: Environment) -> str | None:
        result = self._results.get(environment.default_certificate)
        return environment.default_certificate if result is not None and result.unit is not None else None

    def _default_problems(self, environment: Environment) -> tuple[Problem, ...]:
        result = self._results.get(environment.default_certificate)
        if result is None or result.unit is not None:
            return ()
        message = f"{result.fault}: names that no certificate covers get a self-signed one"
        origin = Origin("Config", "", "flags")
        return (Problem("error", origin, result.reason, "default-ssl-certificate", message),)
