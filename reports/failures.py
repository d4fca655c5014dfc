"""What page and job summary say of bad verdicts: a few of each backend whole, the next folded, the rest counted.

Verdicts with one message stand together, however many cases they are of; of the others, those of one case.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.catalogue import Case
from harness.records import MEANING, Job, Status
from harness.text import writable
from reports.digest import SEVERITY, Digest, Group, worst

if TYPE_CHECKING:
    from reports.picture import Picture

#: Failures of a backend shown at once, and folded below them.
OPEN, FOLDED = 5, 40
#: Characters of a message or of a log; messages of one failure.
MESSAGE, LINES = 4_000, 4


@dataclass(frozen=True)
class Line:
    """One message, and the check that said it."""

    check: str
    status: Status
    message: str


@dataclass(frozen=True)
class Failure:
    """Bad verdicts that are shown together.

    Attributes
    ----------
    status : Status
        The worst of them.
    case, spec : str
        The first one's; `spec` is empty where the catalogue has none.
    jobs, more : int
        How many they are; how many of them, beyond the first, said the same on other cases.
    lines : tuple of Line
    unsaid : tuple of str
        Checks that said more than `lines` hold.
    diagnosis : tuple of str
        What was found to be wrong.
    log : str
        Traceback and output of the process.
    repeat : str
        The line that repeats the one that is drawn, or the first.
    picture : Picture or None
    """

    status: Status
    case: str
    spec: str
    jobs: int
    more: int
    lines: tuple[Line, ...]
    unsaid: tuple[str, ...]
    diagnosis: tuple[str, ...]
    log: str
    repeat: str
    picture: Picture | None


@dataclass(frozen=True)
class Blame:
    """The failures of one backend: shown, folded, and how many jobs are neither."""

    backend: str
    jobs: int
    cases: int
    shown: tuple[Failure, ...]
    folded: tuple[Failure, ...]
    left: int


def blamed(made: Digest, cases: Mapping[str, Case], pictures: Mapping[Job, Picture], *, folded: int = FOLDED) -> list[Blame]:
    """The failures of every backend that has any.

    Parameters
    ----------
    made : Digest
    cases : mapping of str to Case
        The catalogue, by id.
    pictures : mapping of Job to Picture
        Failures that have one come first.
    folded : int
        Failures of a backend beyond those shown at once.
    """
    by_backend: dict[str, dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for g in made.failures:
        alone = len({r.job.case for r in g.records}) == 1
        by_backend[g.backend][g.first.job.case if alone else f"\0{g.status}\0{g.message}"].append(g)
    found = []
    for backend, entries in by_backend.items():
        ordered = _in_turn(sorted(entries.values(), key=lambda e: not _drawn(e, pictures)))
        kept = [_failure(made, e, cases, pictures) for e in ordered[: OPEN + folded]]
        jobs = sum(len(g.records) for e in ordered for g in e)
        named = {r.job.case for e in ordered for g in e for r in g.records}
        left = sum(len(g.records) for e in ordered[OPEN + folded :] for g in e)
        found.append(Blame(writable(backend, 300), jobs, len(named), tuple(kept[:OPEN]), tuple(kept[OPEN:]), left))
    return found


def _in_turn(entries: list[list[Group]]) -> list[list[Group]]:
    """The first of each status, the second of each, ...: a hundred FAILs hide no CRASH."""
    place: Counter[Status] = Counter()
    turns = []
    for entry in entries:
        status = worst(g.status for g in entry)
        turns.append((place[status], SEVERITY.index(status), entry))
        place[status] += 1
    return [entry for *_, entry in sorted(turns, key=lambda t: t[:2])]


def _drawn(entry: list[Group], pictures: Mapping[Job, Picture]) -> bool:
    return any(r.job in pictures for g in entry for r in g.records)


def _failure(made: Digest, entry: list[Group], cases: Mapping[str, Case], pictures: Mapping[Job, Picture]) -> Failure:
    records = [r for g in entry for r in g.records]
    # The drawn one speaks for all; where none is, one that says more than where it is wrong.
    first = next((r for r in records if r.job in pictures), records[0])
    case = cases.get(first.job.case)
    lines = [
        Line(
            ", ".join(dict.fromkeys(writable(r.job.check, 100) for r in g.records)),
            g.status,
            writable(g.message or MEANING[g.status], MESSAGE),
        )
        for g in sorted(entry, key=lambda g: first not in g.records)
    ]
    log = next((r.verdict.details for r in records if {"traceback", "log"} & r.verdict.details.keys()), {})
    return Failure(
        worst(g.status for g in entry),
        writable(first.job.case, 300),
        str(case.spec) if case is not None and case.spec is not None else "",
        len(records),
        len(records) - 1 if len({r.job.case for r in records}) > 1 else 0,
        tuple(lines[:LINES]),
        tuple(line.check for line in lines[LINES:]),
        next((tuple(writable(t, MESSAGE) for t in r.verdict.diagnosis) for r in (first, *records) if r.verdict.diagnosis), ()),
        "\n".join(writable(log[n], MESSAGE) for n in ("traceback", "log") if log.get(n)),
        writable(made.repeat(first.job) or "", MESSAGE),
        pictures.get(first.job),
    )
