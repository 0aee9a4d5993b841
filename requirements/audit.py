"""Do the pinned dependencies have known vulnerabilities? `make audit` runs this in an environment that has pip-audit.

Exit code 0: none that `audit-allowed.toml` does not give a reason for; or nobody could be asked, which stderr says.
1: vulnerabilities, or an entry of that file that has ended or is wrong.

A mirror of PyPI answers for packages and knows no advisories, and pip-audit then finds nothing wrong with anything. So
a package that is known to be vulnerable is asked about first.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parent
KNOWN: Final = ("jinja2", "2.10", "CVE-2019-10906")
"""A version that no list here pins, and one of its advisories."""
TIMEOUT_S: Final = 300.0


class NotAskedError(Exception):
    """The advisory service did not answer, or does not know what it should."""


class AllowedError(Exception):
    """`audit-allowed.toml` is not what it should be."""


class Finding(NamedTuple):
    """A vulnerability of a pinned package. `ids` are all the names of one advisory."""

    package: str
    version: str
    ids: frozenset[str]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {', '.join(sorted(self.ids))}, {fixed}"


class Allowed(NamedTuple):
    """A vulnerability that does not concern us, why, and when somebody looks again."""

    id: str
    package: str
    reason: str
    until: datetime.date


def allowed_of(text: str) -> list[Allowed]:
    """The entries of the list. Raises AllowedError."""
    try:
        entries = tomllib.loads(text).get("allowed", [])
        found = [Allowed(**entry) for entry in entries]
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise AllowedError(str(error)) from None
    for entry in found:
        if not isinstance(entry.until, datetime.date) or not str(entry.reason).strip():
            raise AllowedError(f"{entry.id} needs a reason, and a date in `until`")
    return found


def findings_of(*reports: dict[str, Any]) -> tuple[list[Finding], list[str]]:
    """The vulnerabilities in pip-audit's reports, and the packages that it could not ask about."""
    found, skipped = [], []
    for one in (dependency for report in reports for dependency in report["dependencies"]):
        if "skip_reason" in one:
            skipped.append(one["name"])
        for advisory in one.get("vulns", ()):
            ids = frozenset((advisory["id"], *advisory["aliases"]))
            found.append(Finding(one["name"], one["version"], ids, tuple(advisory["fix_versions"])))
    return sorted(set(found), key=str), sorted(set(skipped))


def judge(found: list[Finding], allowed: list[Allowed], *, today: datetime.date) -> list[str]:
    """What has to be done, a line each; nothing when all is well."""
    out, used = [], set()
    for finding in found:
        excuse = next((one for one in allowed if one.package == finding.package and one.id in finding.ids), None)
        if excuse is None:
            out.append(str(finding))
            continue
        used.add(excuse)
        if excuse.until < today:
            out.append(f"{finding} (allowed until {excuse.until}: look again)")
    out += [f"{one.package}: {one.id} is allowed and is no finding any more" for one in allowed if one not in used]
    return out


def ask(pinned: Path) -> dict[str, Any]:
    """pip-audit's report about one list; two may not pin the same package. Raises NotAskedError."""
    # The list is whole and hashed, so nothing is resolved or installed.
    words = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    words += ["--progress-spinner", "off", "--requirement", str(pinned)]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired:
        raise NotAskedError(f"no answer in {TIMEOUT_S:.0f} s") from None
    try:
        report: dict[str, Any] = json.loads(ran.stdout)
    except ValueError:
        raise NotAskedError(
            ran.stderr.strip().rpartition("\n")[2] or f"pip-audit ended with {ran.returncode}"
        ) from None
    return report


def check_known(report: dict[str, Any]) -> None:
    """Does whoever answers know advisories? Raises NotAskedError."""
    package, version, advisory = KNOWN
    if not any(advisory in finding.ids for finding in findings_of(report)[0]):
        raise NotAskedError(f"whoever answers for PyPI knows nothing of {advisory} in {package} {version}")


def main() -> int:
    """Ask, judge, say."""
    try:
        allowed = allowed_of((FOLDER / "audit-allowed.toml").read_text("utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            known = Path(folder) / "known.txt"
            known.write_text(f"{KNOWN[0]}=={KNOWN[1]} --hash=sha256:{64 * '0'}\n")
            check_known(ask(known))
        found, skipped = findings_of(*(ask(pinned) for pinned in sorted(FOLDER.glob("*.lock"))))
    except AllowedError as error:
        sys.stderr.write(f"audit: audit-allowed.toml: {error}\n")
        return 1
    except NotAskedError as error:
        sys.stderr.write(f"audit: dependencies were NOT looked at, the advisory service cannot be asked: {error}\n")
        return 0
    if skipped:
        sys.stderr.write(f"audit: NOT looked at, unknown to the advisory service: {', '.join(skipped)}\n")
    # An allowed package that was skipped is still allowed.
    todo = judge(found, [one for one in allowed if one.package not in skipped], today=datetime.date.today())
    sys.stderr.write("".join(f"audit: {line}\n" for line in todo))
    sys.stderr.write(f"audit: {len(found)} known vulnerabilities, {len(todo)} to be dealt with\n")
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main())
