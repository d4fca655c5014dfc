"""JUnit XML, as GitHub's actions, GitLab and Jenkins read it.

A suite is a backend on a device, a test is a check of a case. FAIL, WEAK and XPASS are failures; ERROR,
CRASH, TIMEOUT and OOM are errors; what was not tried is skipped, with its reason, and so is XFAIL. Nothing
but PASS is a test without a child that says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from xml.sax.saxutils import escape, quoteattr

from harness.records import Record, Status
from harness.store.model import RunRow
from harness.text import writable
from reports.digest import Digest, Repeat, digest

_KIND = {
    Status.FAIL: "failure",
    Status.WEAK: "failure",
    Status.XPASS: "failure",
    Status.ERROR: "error",
    Status.CRASH: "error",
    Status.TIMEOUT: "error",
    Status.OOM: "error",
    Status.UNSUPPORTED: "skipped",
    Status.UNAVAILABLE: "skipped",
    Status.NOT_RUN: "skipped",
    Status.XFAIL: "skipped",
}
#: Characters of a `message` attribute, which viewers show in one line, and of the text below it.
MESSAGE, BODY = 500, 8_000


def junit(run: RunRow, records: Iterable[Record], repeat: Repeat | None = None) -> str:
    """The XML document.

    Parameters
    ----------
    run : RunRow
    records : iterable of Record
    repeat : callable, optional
        Job -> the line that repeats it.

    Examples
    --------
    >>> from harness.records import Job, Verdict
    >>> from harness.store import RunInfo
    >>> record = Record(Job("edge-1d", "naive", "cpu", "integers"), Verdict(Status.PASS, error_units=0.25))
    >>> print(junit(RunRow("r1", RunInfo(seed=7), exit_code=0), [record]).splitlines()[1])
    <testsuites name="convproof" tests="1" failures="0" errors="0" skipped="0" time="0.000000">
    """
    made = digest(run, records, repeat)
    suites: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for r in made.records:
        suites[r.job.backend, r.job.device].append(r)
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    lines.append(f"<testsuites {_attributes(name='convproof', **_numbers(made.records))}>")
    for (backend, device), held in suites.items():
        lines += _suite(made, backend, device, held)
    lines.append("</testsuites>")
    return "\n".join(lines) + "\n"


def _suite(made: Digest, backend: str, device: str, held: Sequence[Record]) -> Iterator[str]:
    name = backend if device == "-" else f"{backend} on {device}"
    info = made.run.info
    stamp = {"timestamp": info.started.removesuffix("Z")} if info.started else {}
    yield f"<testsuite {_attributes(name=name, **_numbers(held), **stamp)}>"
    yield from _properties([*made.facts, *((f"environment.{k}", v) for k, v in made.environment)])
    # A backend on several devices has the same test twice; viewers tell tests apart by class and name alone.
    suffix = f" on {device}" if len(made.devices.get(backend, ())) > 1 and device != "-" else ""
    for r in held:
        yield from _test(made, r, suffix)
    yield "</testsuite>"


def _test(made: Digest, r: Record, suffix: str) -> Iterator[str]:
    job, v = r.job, r.verdict
    family = job.case.partition("-")[0]
    named = _attributes(classname=f"{job.backend}.{family}", name=f"{job.case} [{job.check}]{suffix}", time=f"{r.seconds:.6f}")
    figures = [(n, repr(float(x))) for n in ("error_units", "error_bound") if (x := getattr(v, n)) is not None]
    kind = _KIND.get(v.status)
    if not figures and kind is None:
        yield f"<testcase {named}/>"
        return
    yield f"<testcase {named}>"
    yield from _properties(figures)
    if kind is not None:
        said = v.message.partition("\n")[0] or str(v.status)
        attributes = _attributes(**({} if kind == "skipped" else {"type": v.status.value}))
        message = quoteattr(writable(f"{v.status}: {said}", MESSAGE))
        body = "" if kind == "skipped" else escape(writable(_body(made, r), BODY + 2_000))
        yield f"<{kind} message={message}{' ' if attributes else ''}{attributes}>{body}</{kind}>"
    yield "</testcase>"


def _body(made: Digest, r: Record) -> str:
    """The message, figures, what the backend left behind, and the line that repeats it."""
    v = r.verdict
    parts = [writable(v.message, BODY // 2)]
    if v.worst_index is not None:
        parts.append(f"worst at {list(v.worst_index)}: got {v.got}, expected {v.expected}")
    if v.error_bound is not None and isfinite(v.error_bound):
        parts.append(f"error {v.error_bound:.4g} x the bound")
    if v.error_units is not None:
        parts.append(f"error {v.error_units:.4g} u A")
    parts += [f"diagnosis: {writable(text, MESSAGE)}" for text in v.diagnosis]
    parts += [writable(v.details[n], BODY // 4) for n in ("traceback", "log") if n in v.details]
    if (line := made.repeat(r.job)) is not None:
        parts.append(f"repeat: {line}")
    return "\n".join(parts)


def _properties(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    if pairs:
        yield "<properties>"
        for name, value in pairs:
            yield f"<property {_attributes(name=name, value=writable(value, BODY))}/>"
        yield "</properties>"


def _numbers(held: Sequence[Record]) -> dict[str, str]:
    kinds = [_KIND.get(r.verdict.status) for r in held]
    numbers = {"tests": len(held)} | {f"{k}s": kinds.count(k) for k in ("failure", "error")}
    numbers["skipped"] = kinds.count("skipped")
    return {k: str(v) for k, v in numbers.items()} | {"time": f"{sum(r.seconds for r in held):.6f}"}


def _attributes(**named: str) -> str:
    return " ".join(f"{k}={quoteattr(writable(v))}" for k, v in named.items())
