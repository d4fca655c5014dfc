"""A run as one HTML page that needs nothing else: no network, no fonts, no script to be read.

What the template shows is made here; the template only places it. Every text of a backend, a case or a
driver is stripped of what can't be written and escaped by Jinja; a content security policy forbids the
page to load anything or to run any script but its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from harness.catalogue import Case
from harness.records import BAD, MEANING, Job, Record, Status
from harness.store.model import RunRow
from harness.text import writable
from reports.digest import SEVERITY, Digest, Repeat, digest, tally, worst
from reports.failures import blamed
from reports.strip import TICKS, Strip, strip

if TYPE_CHECKING:
    from reports.benchmark import Benchmark
    from reports.picture import Picture
    from reports.timing_page import BenchView

#: One letter a status: colour never stands alone.
LETTER = {s: s.value[0] for s in SEVERITY} | {Status.UNAVAILABLE: "A", Status.OOM: "M", Status.XFAIL: "x"}
assert len(set(LETTER.values())) == len(SEVERITY)
#: Reasons a status; characters of a message in a case's row, of a name.
REASONS, SHORT, NAME = 200, 240, 300
#: Records beyond which the checks of a case that say the same share a row; beside a benchmark there is less room.
MANY, MANY_TIMED = 20_000, 5_000
#: Cases that are listed, as many again in which something is bad, and beside a benchmark; the others are counted.
LISTED, LISTED_TIMED = 5_000, 1_000


@dataclass(frozen=True)
class Cell:
    """What a square of the matrix says."""

    status: Status
    letter: str
    title: str


@dataclass(frozen=True)
class Row:
    """One line of a case's table: checks of a backend's device that say the same.

    The backend is named in its first line alone, and so is the line that repeats what is bad.
    """

    backend: str
    device: str
    checks: str
    status: Status
    bound: str
    units: str
    message: str
    repeat: str


@dataclass(frozen=True)
class CaseView:
    """A case of the matrix."""

    id: str
    cells: tuple[Cell | None, ...]
    bad: bool
    about: Case | None
    changed: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Family:
    """The cases of a family: their number, how many are bad, and those that are listed."""

    name: str
    cells: tuple[Cell | None, ...]
    number: int
    bad: int
    cases: tuple[CaseView, ...]

    @property
    def left(self) -> tuple[int, int]:
        """Cases that are not listed, and how many of them are bad."""
        return self.number - len(self.cases), self.bad - sum(c.bad for c in self.cases)


def page(
    run: RunRow,
    records: Iterable[Record],
    cases: Mapping[str, Case],
    repeat: Repeat | None = None,
    pictures: Mapping[Job, Picture] | None = None,
    bench: Benchmark | None = None,
    sampled: str | None = None,
) -> str:
    """The page.

    Parameters
    ----------
    run : RunRow
    records : iterable of Record
    cases : mapping of str to Case
        The catalogue, by id; what it lacks is shown without its specification.
    repeat : callable, optional
        Job -> the line that repeats it.
    pictures : mapping of Job to Picture, optional
        Errors of failures whose arrays were at hand.
    bench : Benchmark, optional
        The run's timings. Without matplotlib their plots are left out, and the page says so.
    sampled : str, optional
        Case whose raw samples are drawn; without it the one whose figure is known worst.

    Raises
    ------
    ImportError
        If Jinja is missing, or pandas for timings; the message says what to install.
    """
    environment = _templates()
    made = digest(run, records, repeat)
    backends = list(made.table)
    script = environment.get_template("page.js.j2").render()
    return str(
        environment.get_template("page.html.j2").render(
            made=made,
            backends=backends,
            families=_families(made, cases, backends, timed=bench is not None),
            blamed=blamed(made, cases, pictures or {}),
            reasons={s: (found[:REASONS], len(found) - REASONS) for s, found in made.reasons.items()},
            strips=_strips(made),
            ticks=TICKS,
            legend=[(s, LETTER[s], n, MEANING[s]) for s, n in made.counts.items()],
            letter=LETTER,
            tally=tally,
            text=_text,
            bench=_bench(bench, cases, sampled),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )


def _bench(bench: Benchmark | None, cases: Mapping[str, Case], sampled: str | None) -> BenchView | None:
    if bench is None:
        return None
    from reports.timing_page import bench_view

    return bench_view(bench, cases, sampled)


def _templates() -> Any:
    try:
        import jinja2
    except ImportError as e:
        raise ImportError("HTML pages need jinja2: pip install 'convproof[reports]'", name="jinja2") from e
    return jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _text(value: object, limit: int = NAME) -> str:
    return writable(value, limit)


def _families(made: Digest, cases: Mapping[str, Case], backends: Sequence[str], *, timed: bool) -> list[Family]:
    """The matrix, in the catalogue's order."""
    held: dict[str, list[Record]] = defaultdict(list)
    for r in made.records:
        held[r.job.case].append(r)
    order = {name: i for i, name in enumerate(cases)}
    listed: dict[str, list[CaseView]] = defaultdict(list)
    cells: dict[str, list[tuple[Cell | None, ...]]] = defaultdict(list)
    bad: Counter[str] = Counter()
    room = dict.fromkeys((True, False), LISTED_TIMED if timed else LISTED)
    many = len(made.records) > (MANY_TIMED if timed else MANY)
    for name in sorted(held, key=lambda n: order.get(n, len(order))):
        case = cases.get(name)
        family = case.family if case else name.partition("-")[0]
        wrong = any(r.verdict.status in BAD for r in held[name])
        by_backend = _by_backend(held.pop(name))
        cells[family].append(_cells(by_backend, backends))
        bad[family] += wrong
        if room[wrong] > 0:
            room[wrong] -= 1
            listed[family].append(_case(made, name, case, by_backend, backends, cells[family][-1], bad=wrong, many=many))
    return [
        Family(_text(name), _summary_cells(of_cases, backends), len(of_cases), bad[name], tuple(listed[name]))
        for name, of_cases in cells.items()
    ]


def _by_backend(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for r in records:
        found[r.job.backend].append(r)
    return found


def _cells(by_backend: Mapping[str, Sequence[Record]], backends: Sequence[str]) -> tuple[Cell | None, ...]:
    statuses = ([r.verdict.status for r in by_backend.get(backend, ())] for backend in backends)
    return tuple(_cell(backend, found) if found else None for backend, found in zip(backends, statuses, strict=True))


def _case(
    made: Digest,
    name: str,
    case: Case | None,
    by_backend: Mapping[str, Sequence[Record]],
    backends: Sequence[str],
    cells: tuple[Cell | None, ...],
    *,
    bad: bool,
    many: bool,
) -> CaseView:
    digests = {r.digest for records in by_backend.values() for r in records if r.digest}
    changed = case is not None and bool(digests - {case.version})
    return CaseView(_text(name), cells, bad, case, changed, tuple(_rows(made, by_backend, backends, many=many)))


def _rows(made: Digest, by_backend: Mapping[str, Sequence[Record]], backends: Sequence[str], *, many: bool) -> Iterable[Row]:
    for backend in backends:
        alike: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
        for r in by_backend.get(backend, ()):
            v = r.verdict
            figures = () if many else (_figure(v.error_bound), _figure(v.error_units))
            alike[r.job.device, v.status, v.message, *figures].append(r)
        bad = next((rs[0].job for (_, status, *_), rs in alike.items() if status in BAD), None)
        repeat = _text(made.repeat(bad) or "", 2_000) if bad else ""
        several = len(made.devices.get(backend, ())) > 1
        for i, ((device, status, message, *_), records) in enumerate(alike.items()):
            yield Row(
                "" if i else _text(backend),
                _text(device) if several else "",
                ", ".join(_text(r.job.check) for r in records),
                status,
                _figure(_largest(r.verdict.error_bound for r in records)),
                _figure(_largest(r.verdict.error_units for r in records)),
                _text(message, SHORT),
                repeat if bad in [r.job for r in records] else "",
            )


def _cell(backend: str, statuses: Sequence[Status]) -> Cell:
    status = worst(statuses)
    found = Counter(statuses)
    return Cell(status, LETTER[status], f"{_text(backend)}: {tally({s: found[s] for s in SEVERITY if found[s]})}")


def _summary_cells(of_cases: Sequence[tuple[Cell | None, ...]], backends: Sequence[str]) -> tuple[Cell | None, ...]:
    statuses = ([c.status for cells in of_cases if (c := cells[i]) is not None] for i in range(len(backends)))
    return tuple(_cell(backend, found) if found else None for backend, found in zip(backends, statuses, strict=True))


def _strips(made: Digest) -> dict[str, Strip]:
    errors: dict[str, list[float]] = defaultdict(list)
    for r in made.records:
        if r.verdict.error_bound is not None:
            errors[r.job.backend].append(r.verdict.error_bound)
    return {name: strip(errors[name]) for name in made.table if errors[name]}


def _largest(figures: Iterable[float | None]) -> float | None:
    return max((f for f in figures if f is not None), default=None)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isfinite(value) else ("∞" if value > 0 else "NaN")
