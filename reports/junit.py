"""JUnit XML, as GitHub's actions, GitLab and Jenkins read it.

A suite is a backend on a device, a test is a check of a case. FAIL, WEAK and XPASS are failures; ERROR,
CRASH, TIMEOUT and OOM are errors; what was not tried is skipped, with its reason, and so is XFAIL. Nothing
but PASS is a test without a child that says so.

A timing is a test too, `CASE [figure]`, whose time is the median of a call: what was refused is skipped, with its
reason, and what a comparison found SLOWER or LESS ACCURATE is a failure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from harness.records import Record, Status
from harness.store.model import RunRow
from harness.text import writable
from reports.changes import WORSE
from reports.digest import Digest, Repeat, digest
from reports.quantities import digits

if TYPE_CHECKING:
    from reports.benchmark import Benchmark

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
#: Columns of `Run.timings` that a figure's test has as properties.
_TIMES = (
    "seconds",
    "low",
    "high",
    "cpu_seconds",
    "device_seconds",
    "cold_seconds",
    "setup_seconds",
    "gflops",
    "gbytes",
    "roof",
)


def junit(run: RunRow, records: Iterable[Record], repeat: Repeat | None = None, *, bench: Benchmark | None = None) -> str:
    """The XML document.

    Parameters
    ----------
    run : RunRow
    records : iterable of Record
    repeat : callable, optional
        Job -> the line that repeats it.
    bench : Benchmark, optional
        The run's timings.

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
    figures: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for f in _figures(bench) if bench is not None else ():
        figures[f.backend, f.device].append(f)
        suites.setdefault((f.backend, f.device), [])
    every = [f for held in figures.values() for f in held]
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    lines.append(f"<testsuites {_attributes(name='convproof', **_numbers(made.records, every))}>")
    for (backend, device), held in suites.items():
        lines += _suite(made, backend, device, held, figures.get((backend, device), []))
    lines.append("</testsuites>")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Figure:
    """A timing as a test: its kind as of `_KIND`, what is said, and its properties."""

    case: str
    backend: str
    device: str
    seconds: float
    kind: str | None
    type: str
    message: str
    properties: tuple[tuple[str, str], ...]


def _figures(bench: Benchmark) -> Iterator[Figure]:
    worse = {(c.case, c.backend, c.device): c for c in reversed(bench.changes) if c.verdict in WORSE}
    for row in bench.rows:
        key = row["case"], row["backend"], row["device"]
        stands = row["seconds"] > 0
        named = [(n, repr(row[n])) for n in _TIMES if isfinite(row[n])] if stands else []
        if stands:
            named += [(n, str(row[n])) for n in ("samples", "processes", "threads")]
        change = worse.get(key)
        if change is not None:
            said = f"{digits(change.ratio)} times the {change.quantity} of before" if isfinite(change.ratio) else change.note
            interval = f", interval {change.interval}" if change.interval else ""
            kind, word, text = "failure", str(change.verdict), f"{change.verdict}: {said}{interval}"
        else:
            kind, word, text = ("" if stands else "skipped"), "", row["refused"] or ("" if stands else "no samples")
        yield Figure(*key, row["seconds"] if stands else 0.0, kind or None, word, text, tuple(named))


def _figure_test(f: Figure, suffix: str) -> Iterator[str]:
    family = f.case.partition("-")[0]
    name = f"{f.case} [figure]{suffix}"
    yield f"<testcase {_attributes(classname=f'{f.backend}.{family}', name=name, time=f'{f.seconds:.9f}')}>"
    yield from _properties(f.properties)
    if f.kind is not None:
        kind = f" {_attributes(type=f.type)}" if f.type else ""
        yield f"<{f.kind} message={quoteattr(writable(f.message, MESSAGE))}{kind}></{f.kind}>"
    yield "</testcase>"


def _suite(made: Digest, backend: str, device: str, held: Sequence[Record], figures: Sequence[Figure]) -> Iterator[str]:
    name = backend if device == "-" else f"{backend} on {device}"
    info = made.run.info
    stamp = {"timestamp": info.started.removesuffix("Z")} if info.started else {}
    yield f"<testsuite {_attributes(name=name, **_numbers(held, figures), **stamp)}>"
    yield from _properties([*made.facts, *((f"environment.{k}", v) for k, v in made.environment)])
    # A backend on several devices has the same test twice; viewers tell tests apart by class and name alone.
    suffix = f" on {device}" if len(made.devices.get(backend, ())) > 1 and device != "-" else ""
    for r in held:
        yield from _test(made, r, suffix)
    for f in figures:
        yield from _figure_test(f, suffix)
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


def _numbers(held: Sequence[Record], figures: Sequence[Figure] = ()) -> dict[str, str]:
    kinds = [*(_KIND.get(r.verdict.status) for r in held), *(f.kind for f in figures)]
    numbers = {"tests": len(kinds)} | {f"{k}s": kinds.count(k) for k in ("failure", "error")}
    numbers["skipped"] = kinds.count("skipped")
    return {k: str(v) for k, v in numbers.items()} | {
        "time": f"{sum(r.seconds for r in held) + sum(f.seconds for f in figures):.6f}"
    }


def _attributes(**named: str) -> str:
    return " ".join(f"{k}={quoteattr(writable(v))}" for k, v in named.items())
