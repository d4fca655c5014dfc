"""What a comparison found: a case on a backend that became slower, faster, more or less accurate, or could not be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, nan
from typing import Any, Literal, get_args

from reports.quantities import digits, duration

Quantity = Literal["time", "error", "instructions"]
Finding = Literal["WRONG", "SLOWER", "LESS ACCURATE", "FASTER", "MORE ACCURATE", "INCONCLUSIVE", "NOT COMPARED", "SAME"]

#: The worst first, and what each means.
MEANING: Mapping[Finding, str] = {
    "WRONG": "an output is wrong: its time means nothing",
    "SLOWER": "the interval of the ratio lies above 1 by more than the least change looked for",
    "LESS ACCURATE": "the error grew",
    "FASTER": "the interval of the ratio lies below 1 by more than the least change looked for",
    "MORE ACCURATE": "the error shrank",
    "INCONCLUSIVE": "the interval is too wide to tell",
    "NOT COMPARED": "one side has no figure",
    "SAME": "no change that matters",
}
ORDER: Mapping[Finding, int] = {finding: i for i, finding in enumerate(MEANING)}
#: What makes a comparison bad.
WORSE: frozenset[Finding] = frozenset({"WRONG", "SLOWER", "LESS ACCURATE"})


@dataclass(frozen=True)
class Change:
    """One quantity of a case on a backend's device, before and after.

    Attributes
    ----------
    case, backend, device : str
    quantity : {'time', 'error', 'instructions'}
    verdict : str
        A key of `MEANING`.
    ratio, low, high : float
        After to before, and its interval; above 1 is worse. NaN where there is none.
    before_seconds, after_seconds : float
        Medians of both sides; of `quantity` "error" the errors in units of u A, of "instructions" their number a call.
    note : str
        What else is to be said.
    """

    case: str
    backend: str
    device: str
    quantity: Quantity
    verdict: Finding
    ratio: float
    low: float
    high: float
    before_seconds: float
    after_seconds: float
    note: str = ""

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity):
            raise ValueError(f"a change is of {', '.join(get_args(Quantity))}, not of {self.quantity!r}")
        if self.verdict not in MEANING:
            raise ValueError(f"a change is one of {', '.join(MEANING)}, not {self.verdict!r}")

    @property
    def size(self) -> float:
        """How far from no change, on a scale where twice and half are as far; infinite where nothing is known."""
        return abs(log(self.ratio)) if isfinite(self.ratio) and self.ratio > 0 else float("inf")

    @property
    def values(self) -> tuple[str, str]:
        """Before and after, with their unit; empty where there is none."""
        before, after = self.before_seconds, self.after_seconds
        if self.quantity == "time":
            return duration(before), duration(after)
        unit = " u\N{MIDDLE DOT}A" if self.quantity == "error" else ""
        shown = (digits(before), digits(after))
        return f"{shown[0]}{unit if shown[0] else ''}", f"{shown[1]}{unit if shown[1] else ''}"

    @property
    def interval(self) -> str:
        """The interval of the ratio; empty where there is none."""
        return f"{digits(self.low)} to {digits(self.high)}" if isfinite(self.low) and isfinite(self.high) else ""


def from_data(found: Mapping[str, Any]) -> Change:
    """A change as `convproof compare` stores it: `harness.cli.compare_table.finding_data`; None stands for no number."""
    ratio, low, high, before, after = (
        nan if found[k] is None else float(found[k]) for k in ("ratio", "low", "high", "before", "after")
    )
    case, backend, device = (str(found[k]) for k in ("case", "backend", "device"))
    return Change(
        case, backend, device, found["quantity"], found["finding"], ratio, low, high, before, after, str(found["note"])
    )


def ranked(changes: Iterable[Change]) -> list[Change]:
    """The worst verdict first, within it the largest change first.

    Examples
    --------
    >>> small, large = (Change("c", "b", "cpu", "time", "SLOWER", r, r, r, 1.0, r) for r in (1.1, 2.0))
    >>> same = Change("c", "b", "cpu", "time", "SAME", 1.0, 0.99, 1.01, 1.0, 1.0)
    >>> [c.ratio for c in ranked([same, small, large])]
    [2.0, 1.1, 1.0]
    """
    return sorted(changes, key=lambda c: (ORDER[c.verdict], -c.size, c.case, c.backend, c.device, c.quantity))


def tally(changes: Sequence[Change]) -> str:
    """How many of each verdict, the worst first, in a line; empty without changes.

    Examples
    --------
    >>> tally([Change("c", "b", "cpu", "time", "SAME", 1.0, 0.99, 1.01, 1.0, 1.0)])
    '1 SAME'
    """
    found = Counter(c.verdict for c in changes)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in MEANING if found[verdict])
