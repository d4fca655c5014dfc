"""A benchmark, ready to be written about: its figures as rows, what was refused, what changed.

pandas is imported when a frame is asked for; Markdown and JUnit do without.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import TYPE_CHECKING, Any

from harness.records import Record
from harness.samples import Timing
from harness.store.model import RunRow
from harness.store.timing_frames import TIMING_COLUMNS, timing_row
from harness.timing.ratios import Mean, means
from reports.changes import Change, ranked, tally
from reports.digest import Reason

if TYPE_CHECKING:
    import pandas as pd

_ERRORS = ("error_bound", "error_units")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The timings of a run, and what a comparison made of them.

    Attributes
    ----------
    run : RunRow
    records : tuple of Record
        The verdicts beside which the figures stand.
    raw : tuple of Timing
        With their samples.
    changes : tuple of Change
        The worst first.
    """

    run: RunRow
    records: tuple[Record, ...]
    raw: tuple[Timing, ...]
    changes: tuple[Change, ...] = ()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `Run.timings`, as mappings."""
        worst = self._worst
        made = []
        for t in self.raw:
            errors = worst.get((t.case, t.backend, t.device), {})
            made.append(timing_row(self.run.id, t) | errors)
        return made

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`Run.timings`.

        Raises
        ------
        ImportError
            If pandas is missing; the message says what to install.
        """
        pd = _pandas()
        rows = self.rows
        return pd.DataFrame({n: pd.Series([r[n] for r in rows], dtype=kind) for n, kind in TIMING_COLUMNS.items()})

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Of `Run.verdicts` the columns `case`, `backend`, `device`, `check` and `status`."""
        pd = _pandas()
        named = {n: [getattr(r.job, n) for r in self.records] for n in ("case", "backend", "device", "check")}
        named["status"] = [r.verdict.status.value for r in self.records]
        return pd.DataFrame({n: pd.Series(values, dtype="str") for n, values in named.items()})

    @property
    def refused(self) -> int:
        """Timings without a figure."""
        return sum(bool(t.refused) for t in self.raw)

    @property
    def stand(self) -> int:
        """Timings with one."""
        return len(self.raw) - self.refused

    @property
    def line(self) -> str:
        """How many figures stand, how many were refused, what changed: for the verdict's line.

        Examples
        --------
        >>> from harness.store import RunInfo
        >>> raw = (Timing("c-1", "a", "cpu"), Timing("c-1", "b", "cpu", refused="beyond the roof"))
        >>> Benchmark(RunRow("r", RunInfo(seed=1)), (), raw).line
        '1 figure stands, 1 was refused'
        """
        one = self.stand == 1
        said = [f"{self.stand or 'no'} figure{'' if one else 's'} stand{'s' if one else ''}"]
        if self.refused:
            said.append(f"{self.refused} {'was' if self.refused == 1 else 'were'} refused")
        if self.changes:
            said.append(tally(self.changes))
        return ", ".join(said)

    @cached_property
    def fastest(self) -> dict[str, float]:
        """The shortest median of each case that has a figure, seconds."""
        found: dict[str, float] = {}
        for r in self.rows:
            if r["seconds"] > 0:
                found[r["case"]] = min(found.get(r["case"], r["seconds"]), r["seconds"])
        return found

    @property
    def baseline(self) -> str | None:
        """The backend that the run's ratios are to; None where it is the fastest, or has no figure."""
        named = self.run.info.environment.get("baseline")
        return named if isinstance(named, str) and any(r["backend"] == named and r["seconds"] > 0 for r in self.rows) else None

    @cached_property
    def means(self) -> list[Mean]:
        """The geometric means of the ratios to the baseline; none without one."""
        return means(self.rows, self.baseline) if self.baseline else []

    @cached_property
    def reasons(self) -> list[Reason]:
        """Why figures were refused, the most frequent first."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for t in self.raw:
            if t.refused:
                found[t.refused][t.backend] += 1
        return sorted((Reason(text, dict(c), c.total()) for text, c in found.items()), key=lambda r: -r.jobs)

    @property
    def warnings(self) -> list[str]:
        """What speaks against believing the figures."""
        held = self.run.info.environment.get("warnings", ())
        return [str(w) for w in held] if isinstance(held, list | tuple) else [str(held)]

    @property
    def roofs(self) -> Mapping[str, Mapping[str, Any]]:
        """The measured roofs, by device."""
        held = self.run.info.environment.get("roofs", {})
        return {str(d): r for d, r in held.items() if isinstance(r, Mapping)} if isinstance(held, Mapping) else {}

    @cached_property
    def _worst(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """The largest errors of each pair's verdicts."""
        found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
        for r in self.records:
            for name in _ERRORS:
                value = getattr(r.verdict, name)
                if value is not None and not isnan(value):
                    held = found[r.job.case, r.job.backend, r.job.device]
                    held[name] = max(held.get(name, value), value)
        return found


def benchmark(
    run: RunRow, records: Iterable[Record], timings: Sequence[Timing], changes: Sequence[Change] = ()
) -> Benchmark | None:
    """The benchmark of a run, or None where nothing was timed.

    Parameters
    ----------
    run : RunRow
    records : iterable of Record
    timings : sequence of Timing
    changes : sequence of Change
        What a comparison with another run found.
    """
    return Benchmark(run, tuple(records), tuple(timings), tuple(ranked(changes))) if timings or changes else None


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as e:
        raise ImportError("tables of timings need pandas: pip install 'convproof[reports]'", name="pandas") from e
    return pandas
