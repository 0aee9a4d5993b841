"""A new certificate every second while handshakes go on, and some that are broken."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from loadtest.abuse.fetching import Record
from loadtest.abuse.outcome import Outcome, at_most, told
from loadtest.abuse.place import HOST, PLAIN, Place, pair_at, placed
from loadtest.control.child import Child

EVERY_S = 1.0
BROKEN_S = 2.0
LIVE_S = 1.0
"""From the swap on, to be shown by every worker: the contract's second."""
CLIENTS = {"handshake": 8}
RATE = 120.0


class Shown(NamedTuple):
    """A good pair: since when it is in its place, and the digest by which handshakes know it."""

    since: float
    digest: str


def digest(pem: str) -> str:
    """Of the certificate as clients see it."""
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def put(place: Place, certificate: str, key: str) -> float:
    """Both files in their places, each by rename; when the second was."""
    for name, text in (("key.pem", key), ("cert.pem", certificate)):
        part = place.folder / f".{name}"
        part.write_text(text)
        os.replace(part, place.folder / name)
    return time.monotonic()


def judge(records: Sequence[Record], shown: Sequence[Shown]) -> tuple[list[Record], list[Record], float]:
    """Handshakes that failed, those with a certificate that was neither old nor new then, and how long the last with an
    old one ended after its successor was in place, at most."""
    failed = [record for record in records if record[2].startswith("failed")]
    number = {one.digest: index for index, one in enumerate(shown)}
    strange, latest = [], 0.0
    for record in records:
        began, ended, said = record
        if said.startswith("failed"):
            continue
        index = number.get(said)
        if index is None or ended < shown[index].since - EVERY_S:
            strange.append(record)
        elif index + 1 < len(shown):
            latest = max(latest, began - shown[index + 1].since)
    return failed, strange, latest


def _pair(folder: Path) -> tuple[str, str]:
    certificate, key = pair_at(folder)
    return certificate.read_text(), key.read_text()


BROKEN: dict[str, Callable[[tuple[str, str], tuple[str, str]], tuple[str, str]]] = {
    "a key of another pair": lambda one, other: (one[0], other[1]),
    "a certificate cut in the middle": lambda one, other: (one[0][: len(one[0]) // 2], one[1]),
    "a key cut in the middle": lambda one, other: (one[0], one[1][: len(one[1]) // 2]),
}


def measure(scenario: str, command: Sequence[str], *, seconds: float) -> list[Outcome]:
    """Swaps first, then what is broken."""
    with placed(command, settings=PLAIN, workers=2) as place, Child("loadtest.abuse.fetching") as clients:
        shown = [Shown(time.monotonic(), digest((place.folder / "cert.pem").read_text()))]
        clients.ask("begin", kinds=CLIENTS, host=HOST, port=place.https_port, rate=RATE)
        until = time.monotonic() + seconds
        due = time.monotonic()
        while time.monotonic() < until:
            due += EVERY_S
            time.sleep(max(0.0, due - time.monotonic()))
            certificate, key = _pair(place.folder)
            shown.append(Shown(put(place, certificate, key), digest(certificate)))
        time.sleep(2 * LIVE_S)
        swapped: list[Record] = [(a, b, c) for a, b, c in clients.ask("end")["handshake"]]
        clients.ask("begin", kinds=CLIENTS, host=HOST, port=place.https_port, rate=RATE)
        for wrong in BROKEN.values():
            put(place, *wrong(_pair(place.folder), _pair(place.folder)))
            time.sleep(BROKEN_S)
        broken: list[Record] = [(a, b, c) for a, b, c in clients.ask("end")["handshake"]]
        problems = place.output.lower().count("error")
    failed, strange, latest = judge(swapped, shown)
    lost = [record for record in broken if record[2] != shown[-1].digest]
    why = f": {failed[0][2]}" if failed else ""
    return [
        told(scenario, "certificates", f"{len(shown)}, {len({said for _, _, said in swapped} - {''})} seen"),
        Outcome(scenario, f"handshakes, failed of {len(swapped)}", f"{len(failed)}{why}", "0", not failed),
        at_most(scenario, "handshakes with neither the old nor the new one", len(strange), 0),
        at_most(scenario, "the last handshake with the old one began after", latest, LIVE_S, unit="s", digits=2),
        at_most(
            scenario,
            f"{len(BROKEN)} broken pairs: handshakes without the last good one, of {len(broken)}",
            len(lost),
            0,
        ),
        told(scenario, "lines of log about the broken ones", str(problems)),
    ]
