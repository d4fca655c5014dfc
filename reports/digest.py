"""A run's records in the groups that every report shows: a table, failures alike, reasons, errors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

from harness.records import BAD, OUTCOME, Job, Record, Status, exit_code
from harness.store.model import RunRow

#: The line that repeats a job, or None where it isn't known.
Repeat = Callable[[Job], "str | None"]
#: The worst first: a wrong result that looks right, then what gave none, then what says nothing.
SEVERITY = (
    Status.FAIL,
    Status.CRASH,
    Status.OOM,
    Status.TIMEOUT,
    Status.ERROR,
    Status.XPASS,
    Status.WEAK,
    Status.NOT_RUN,
    Status.UNAVAILABLE,
    Status.UNSUPPORTED,
    Status.XFAIL,
    Status.PASS,
)
#: Parts of a run's environment that reports tell.
_ENVIRONMENT = ("machine", "packages", "limits", "backends", "git", "host_environment", "noise", "roofs", "warnings")
_RANK = {s: i for i, s in enumerate(SEVERITY)}
#: What was not tried, with a reason.
NOT_TRIED = (Status.UNSUPPORTED, Status.UNAVAILABLE, Status.NOT_RUN)


@dataclass(frozen=True)
class Group:
    """Verdicts of one backend that say the same; the first of them stands for all."""

    backend: str
    status: Status
    message: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The record that is shown."""
        return self.records[0]

    @property
    def more(self) -> int:
        """How many others there are."""
        return len(self.records) - 1


@dataclass(frozen=True)
class Reason:
    """Why jobs were not tried, how many of each backend, and of all."""

    text: str
    backends: Mapping[str, int]
    jobs: int

    @property
    def who(self) -> str:
        """The backends, with their jobs where there are several."""
        if len(self.backends) == 1:
            return next(iter(self.backends))
        return ", ".join(f"{name} ({n})" for name, n in self.backends.items())


@dataclass(frozen=True, eq=False)
class Digest:
    """A run, ready to be written about.

    Attributes
    ----------
    run : RunRow
        Of a finished run, or of one that goes on.
    records : tuple of Record
    repeat : callable
        Job -> the line that repeats it, or None.
    """

    run: RunRow
    records: tuple[Record, ...]
    repeat: Repeat

    @cached_property
    def counts(self) -> dict[Status, int]:
        """Records a status, the worst first."""
        found = Counter(r.verdict.status for r in self.records)
        return {s: found[s] for s in SEVERITY if found[s]}

    @property
    def outcome(self) -> str:
        """The verdict on the run: PASS, FAIL, NOTHING VERIFIED, UNFINISHED."""
        return OUTCOME.get(self.run.exit_code, f"exit code {self.run.exit_code}")

    @cached_property
    def table(self) -> dict[str, Counter[Status]]:
        """Records a backend and status; backends in the order of the run, what tries the specification last."""
        found: dict[str, Counter[Status]] = {name: Counter() for name in self.run.info.environment.get("backends", {})}
        for r in self.records:
            found.setdefault(r.job.backend, Counter())[r.verdict.status] += 1
        return {name: counts for name, counts in found.items() if counts}

    @cached_property
    def devices(self) -> dict[str, list[str]]:
        """The devices that each backend was judged on."""
        found: dict[str, dict[str, None]] = {name: {} for name in self.table}
        for r in self.records:
            if r.job.device != "-":
                found[r.job.backend][r.job.device] = None
        return {name: list(devices) for name, devices in found.items()}

    @cached_property
    def closest(self) -> dict[str, tuple[float, str]]:
        """For each backend the largest error in units of the bound among its PASSes, and the case."""
        found: dict[str, tuple[float, str]] = {}
        for r in self.records:
            bound = r.verdict.error_bound
            if r.verdict.status is Status.PASS and bound is not None and isfinite(bound):
                found[r.job.backend] = max(found.get(r.job.backend, (0.0, "")), (bound, r.job.case), key=lambda f: f[0])
        return {name: worst for name, worst in found.items() if worst[0] > 0}

    @cached_property
    def failures(self) -> list[Group]:
        """Bad verdicts, those of a backend with one message together; backends in the order of the table."""
        groups: dict[tuple[str, Status, str], list[Record]] = defaultdict(list)
        for r in self.records:
            if r.verdict.status in BAD:
                groups[r.job.backend, r.verdict.status, r.verdict.message].append(r)
        order = {name: i for i, name in enumerate(self.table)}
        found = [Group(*key, tuple(records)) for key, records in groups.items()]
        return sorted(found, key=lambda g: order[g.backend])

    @cached_property
    def bad(self) -> int:
        """How many verdicts are bad."""
        return sum(len(g.records) for g in self.failures)

    @cached_property
    def reasons(self) -> dict[Status, list[Reason]]:
        """For each status of `NOT_TRIED` its reasons, the most frequent first."""
        found: dict[Status, dict[str, Counter[str]]] = {s: defaultdict(Counter) for s in NOT_TRIED}
        for r in self.records:
            if r.verdict.status in found:
                found[r.verdict.status][r.verdict.message][r.job.backend] += 1
        return {
            status: sorted((Reason(text, dict(c), c.total()) for text, c in held.items()), key=lambda r: -r.jobs)
            for status, held in found.items()
            if held
        }

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the run was: names to text."""
        info = self.run.info
        named = (
            ("run", self.run.id),
            ("seed", str(info.seed)),
            ("selection", " ".join(info.selection)),
            ("command", " ".join(info.command)),
            ("started", info.started),
            ("seconds", f"{self.run.seconds:.1f}"),
            ("jobs", f"{len(self.records)} of {info.jobs_planned}" if info.jobs_planned else str(len(self.records))),
            ("convproof", info.version),
            ("host", info.host),
        )
        return [(name, text) for name, text in named if text]

    @property
    def environment(self) -> list[tuple[str, str]]:
        """Machine, packages, backends and limits, and what a benchmark adds, flattened to dotted names."""
        parts = self.run.info.environment
        wanted = {name: parts[name] for name in _ENVIRONMENT if name in parts}
        return list(_flat(wanted))


def digest(run: RunRow, records: Iterable[Record], repeat: Repeat | None = None) -> Digest:
    """Group the records of a run.

    Parameters
    ----------
    run : RunRow
        Without an exit code and a command, as from a CSV file, the code is that of the records.
    records : iterable of Record
    repeat : callable, optional
    """
    made = Digest(run, tuple(records), repeat or (lambda job: None))
    if run.exit_code is None and not run.info.command:
        return replace(made, run=replace(run, exit_code=exit_code(made.counts)))
    return made


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of several, by `SEVERITY`.

    Examples
    --------
    >>> worst([Status.PASS, Status.UNSUPPORTED, Status.PASS]).value
    'UNSUPPORTED'
    """
    return min(statuses, key=_RANK.__getitem__)


def tally(counts: Mapping[Status, int]) -> str:
    """Counts in a line.

    Examples
    --------
    >>> tally({Status.FAIL: 1, Status.PASS: 1200})
    '1 FAIL, 1200 PASS'
    """
    return ", ".join(f"{n} {s}" for s, n in counts.items())


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{i}")
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if text:
            yield name, text
