"""What a raw case accepts, and what it never accepts.

An outcome of `accept` is one of the words below, or a map all of whose keys must hold: `status`, `statuses`, `answers`
(how many), `close`, `silent` (not one byte), `upstream` (0: not one byte, N: requests, unfinished: no complete request,
and its connection closed), `forwarded` (of the first request upstream: `to`, `method`, `target`, `host`, `body`,
`length`, `coding`, `header`, `count`, `without`, `within`, and `requests`, 1 unless given), `body`, `header` (of the
answer), `truncated`, `reused` (the upstream connection, by the next request), `cut_short` (the proxy did not wait until
the client had sent all), `cpu_ms` (of the worker, at most), `routed`, `in_order`, `to_upstream`, `to_client`.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from cases.grammar import Answer, Request
from cases.raw_runner import Observed

REFUSALS = [400, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 426, 431, 501, 505]
CUTS = [400, 408, 413, 422, 431, 501, 502]
WORDS: dict[str, dict[str, Any]] = {
    "refused": {"status": REFUSALS, "close": True, "upstream": 0},
    "cut off": {"status": CUTS, "close": True, "upstream": "unfinished"},
    "cut off silently": {"silent": True, "close": True, "upstream": "unfinished"},
    "dropped silently": {"silent": True, "close": True, "upstream": 0},
}


def outcome_of(written: str | dict[str, Any]) -> dict[str, Any]:
    """The map of an outcome: `refused 400` is `refused` with one status."""
    if isinstance(written, dict):
        return written
    word, _, status = written.rpartition(" ")
    return {**WORDS[word], "status": int(status)} if status.isdigit() else WORDS[written]


def _header_agrees(wanted: Any, got: list[str]) -> bool:
    if isinstance(wanted, list):
        return got == wanted or any(_header_agrees(item, got) for item in wanted)
    if wanted is None:
        return not got
    if wanted.startswith("~"):
        return len(got) == 1 and re.search(wanted[1:], got[0]) is not None
    return got == [wanted]


def _headers_differ(wanted: dict[str, Any], message: Request | Answer) -> bool:
    return any(not _header_agrees(value, message.all(name)) for name, value in wanted.items())


def within(target: str, prefix: str) -> bool:
    """Is the path below `prefix` under the most generous decoding: percent three times, backslashes, `;` parameters?"""
    path = re.split(r"[?#]", target)[0]
    for _ in range(4):
        path = urllib.parse.unquote(path, encoding="latin-1").replace("\\", "/")
    parts: list[str] = []
    for part in re.sub("/+", "/", path.split("\0")[0]).split("/")[1:]:
        name = part.split(";")[0]
        parts = parts[:-1] if name == ".." else parts if name == "." else [*parts, name]
    whole = "/" + "/".join(parts)
    return whole == prefix or whole.startswith(prefix + "/")


def _forwarded_differs(wanted: dict[str, Any], seen: Observed) -> str:
    if len(seen.requests) != wanted.get("requests", 1):
        return f"{len(seen.requests)} requests forwarded"
    upstream, request = seen.requests[0]
    checks = {
        "requests": lambda value: True,
        "to": lambda value: upstream == value,
        "method": lambda value: request.method == value,
        "target": lambda value: request.target == value,
        "host": lambda value: request.all("host") == [value],
        "body": lambda value: request.complete and request.body == value.encode("latin-1"),
        "length": lambda value: request.all("content-length") == ([] if value is None else [value]),
        "coding": lambda value: [c.lower() for c in request.all("transfer-encoding")] == ([value] if value else []),
        "header": lambda value: not _headers_differ(value, request),
        "count": lambda value: all(len(request.all(name)) == count for name, count in value.items()),
        "without": lambda value: value.encode("latin-1") not in seen.upstream_bytes,
        "within": lambda value: within(request.target, value),
    }
    wrong = [f"{key} {value!r}" for key, value in wanted.items() if not checks[key](value)]
    return f"forwarded {', '.join(wrong)}: {request.method} {request.target} {request.fields[:8]}" if wrong else ""


def _upstream_differs(wanted: int | str, seen: Observed) -> bool:
    if wanted == "unfinished":
        return any(request.complete for _, request in seen.requests) or (
            bool(seen.upstream_bytes) and not seen.upstreams_closed
        )
    return bool(seen.upstream_bytes) if wanted == 0 else len(seen.requests) != wanted


def _order_differs(seen: Observed) -> bool:
    targets = [target.decode("latin-1") for target in re.findall(rb"(?m)^[A-Z]+ (\S+) HTTP", seen.sent)]
    return [value for answer in seen.final for value in answer.all("x-t")] != targets


def differs(outcome: dict[str, Any], seen: Observed, *, but: tuple[str, ...] = ()) -> str:
    """Why the outcome, `but` for these keys of it, does not hold; "" when it does."""
    first = seen.final[0] if seen.final else Answer(0)
    checks = {
        "status": lambda value: first.status in (value if isinstance(value, list) else [value]),
        "statuses": lambda value: [answer.status for answer in seen.final] == value,
        "answers": lambda value: len(seen.final) == value,
        "close": lambda value: seen.closed == value,
        "silent": lambda value: not seen.received,
        "upstream": lambda value: not _upstream_differs(value, seen),
        "body": lambda value: first.body == value.encode("latin-1"),
        "header": lambda value: not _headers_differ(value, first),
        "truncated": lambda value: first.status > 0 and (not first.complete or first.until_close),
        "reused": lambda value: seen.reused == value,
        "cut_short": lambda value: seen.cut_short == value,
        "cpu_ms": lambda value: seen.worker_cpu_s * 1000 <= value,
        "routed": lambda value: [name for name, _ in seen.requests] == value,
        "in_order": lambda value: not _order_differs(seen),
        "to_upstream": lambda value: value.encode("latin-1") in seen.upstream_bytes,
        "to_client": lambda value: value.encode("latin-1") in seen.received,
    }
    for key, value in outcome.items():
        if key in but:
            continue
        if key == "forwarded":
            if found := _forwarded_differs(value, seen):
                return found
        elif not checks[key](value):
            shown = {"status": first.status, "close": seen.closed, "reused": seen.reused, "body": first.body[:60]}
            return f"{key} {value!r} ({shown.get(key, [answer.status for answer in seen.final])})"
    return ""


def _leaks(wanted: dict[str, str], seen: Observed) -> bool:
    return any(name == wanted["to"] and not within(r.target, wanted["outside"]) for name, r in seen.requests)


def _smuggled(text: str, seen: Observed) -> bool:
    """Did `text` reach an upstream other than inside the one body it was sent in?"""
    data = text.encode("latin-1")
    inside = data in b"".join(request.body for _, request in seen.requests) and len(seen.requests) < 2
    return data in seen.upstream_bytes and not inside


def never_held(case: dict[str, Any], seen: Observed) -> list[str]:
    """What happened that must not happen whatever the outcome was."""
    never = case.get("never", {})
    most = case.get("at_most")
    requests, answers = (
        (most, most) if isinstance(most, int) else ((most or {}).get("upstream"), (most or {}).get("answers"))
    )
    final = [answer for answer in seen.answers if answer.status >= 200]
    last = seen.final[-1] if seen.final else Answer(0)
    tunnelled = [r for _, r in seen.requests if "/smuggled" in r.target and [n for n, _ in r.fields] == [b"Host"]]
    found = {
        "more requests upstream than sent": requests is not None and seen.possible > requests,
        "more answers than requests": answers is not None and len(final) > answers,
        "upstream": "upstream" in never and _smuggled(never["upstream"], seen),
        "upstream_header": "upstream_header" in never
        and any(r.all(never["upstream_header"]) for _, r in seen.requests),
        "answer": "answer" in never and never["answer"].encode("latin-1") in seen.received,
        "answer_header": "answer_header" in never and any(a.all(never["answer_header"]) for a in seen.answers),
        "status": "status" in never and any(a.status in never["status"] for a in seen.answers),
        "complete": "complete" in never and last.status == 200 and last.complete and not last.until_close,
        "reused": "reused" in never and seen.reused,
        "leak": "leak" in never and _leaks(never["leak"], seen),
        "passed through as it came": "as_it_came" in never and bool(tunnelled),
    }
    return [f"never: {name} (at most {requests}, {never})" for name, happened in found.items() if happened]


def is_settled(case: dict[str, Any], seen: Observed, *, scripted: bool) -> bool:
    """Has an accepted outcome come, as far as it can before the next request, and an answer to all that is upstream?"""
    if not any(not differs(outcome_of(written), seen, but=("reused",)) for written in case["accept"]):
        return False
    echoes = sum(bool(answer.all("x-t")) for answer in seen.final)
    whole = sum(request.complete for _, request in seen.requests)
    return scripted or case.get("upgrades", False) or not seen.listened or whole <= echoes


def judge_raw(case: dict[str, Any], seen: Observed) -> tuple[int | None, list[str]]:
    """The number of the outcome that came (0 is what we want, None is none of them), and everything wrong."""
    reasons = [differs(outcome_of(written), seen) for written in case["accept"]]
    number = reasons.index("") if "" in reasons else None
    wrong = never_held(case, seen)
    if number is None:
        wrong += [f"not {written}: {reason}" for written, reason in zip(case["accept"], reasons, strict=True)]
    return number, wrong
