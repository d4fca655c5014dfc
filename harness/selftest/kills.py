"""What counts as a kill, and what became of a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from harness.records import Status, Verdict

#: In the order in which survivors go through them.
SUITES = ("smoke", "gate", "full")
#: A fault that no check may kill: proved to change no result.
EQUIVALENT = "equivalent"


def kills(kind: str, verdict: Verdict) -> bool:
    """Whether `verdict` kills a fault of `kind`.

    A fault in values is killed by a FAIL that compares finite values, and not by a NaN, a shape or a crash that it
    happens to cause besides. `nonfinite`: a FAIL at an element, NaN and infinities included. `contract`: any FAIL.
    `crash`: a FAIL, or a backend that raised, died, hung or filled its memory. An equivalent one counts as killed by
    any of these.

    Examples
    --------
    >>> kills("value", Verdict(Status.FAIL, got=1.0, expected=2.0)), kills("value", Verdict(Status.CRASH))
    (True, False)
    """
    failed = verdict.status is Status.FAIL
    if kind == "value":
        numbers = (verdict.got, verdict.expected)
        return failed and all(v is not None and isfinite(v) for v in numbers)
    if kind == "nonfinite":
        return failed and verdict.worst_index is not None
    if kind == "contract":
        return failed
    return verdict.status in (Status.FAIL, Status.ERROR, Status.CRASH, Status.TIMEOUT, Status.OOM)


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes
    ----------
    name : str
    suite : str
        The first of `SUITES` that killed it; empty if it survived.
    check, case : str
        Who killed it first there: of the checks in their order, on the first case that shows it.
    smoke : mapping of str to int
        For each check that kills it on smoke, on how many cases; complete only where the whole matrix was asked for.
    diagnosis : tuple of str
        Ids of the diagnosis that the first failure carried.
    unavailable : str
        Why it could not be tried, or empty.
    seconds : float
    """

    name: str
    suite: str = ""
    check: str = ""
    case: str = ""
    smoke: Mapping[str, int] = field(default_factory=dict)
    diagnosis: tuple[str, ...] = ()
    unavailable: str = ""
    seconds: float = 0.0

    def killed_by(self, suite: str) -> bool:
        """Whether `suite`, which holds those before it, kills it."""
        return self.suite in SUITES[: SUITES.index(suite) + 1]
