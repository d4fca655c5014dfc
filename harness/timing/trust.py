"""What this machine's comparisons are worth: false alarms of equal sides, and the smallest change that is found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.catalogue import Case
from harness.statistics import proportion_interval, ratio
from harness.timing.compare import Comparison
from harness.timing.rule import Change, Finding, Rule

#: Changes that are tried for the smallest that is found.
STEPS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
#: Of all comparisons: a change that is found as often counts as detectable.
POWER = 0.95


@dataclass
class Trust:
    """What comparisons of equal sides showed, or of sides that differ by a planted share.

    Attributes
    ----------
    first : list of Change
        Of every comparison, before anything was measured again.
    final : list of Change
        After it.
    planted : float
        By how much the second side was made slower; 0 for equal sides.
    seconds : float
        In all.
    """

    planted: float = 0.0
    first: list[Change] = field(default_factory=list)
    final: list[Change] = field(default_factory=list)
    samples: list[list[tuple[Sequence[float], Sequence[float]]]] = field(default_factory=list)
    seconds: float = 0.0

    def share(self, changes: Sequence[Change], *findings: Finding) -> tuple[int, int, float, float]:
        """How many of the changes are among the findings, of how many, and the 95 % interval of that share."""
        told = [c for c in changes if c.finding not in (Finding.NOT_COMPARED, Finding.WRONG)]
        hits = sum(c.finding in findings for c in told)
        return hits, len(told), *proportion_interval(hits, len(told))

    def found(self, change: float, rule: Rule, seed: int = 0) -> float:
        """The share of comparisons in which the second side, made slower by `change` on paper, would be an alarm."""
        hits = 0
        for pairs in self.samples:
            made = ratio([(a, [v * (1 + change) for v in b]) for a, b in pairs], rule.confidence, seed)
            hits += rule.finding(made) is Finding.SLOWER
        return hits / len(self.samples) if self.samples else 0.0

    def smallest(self, rule: Rule) -> float | None:
        """The smallest change that `POWER` of the comparisons would find; None if none of `STEPS` is."""
        low, high = 0, len(STEPS) - 1
        if self.found(STEPS[high], rule) < POWER:
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.found(STEPS[middle], rule) >= POWER else (middle + 1, high)
        return STEPS[high]


def examine(comparison: Comparison, cases: Sequence[Case], repeats: int, tell: Callable[[Trust], None] | None = None) -> Trust:
    """Compare the sides over all cases so many times, each time in new processes, alarms measured again as ever.

    Parameters
    ----------
    comparison : Comparison
        Of a side with itself; its trial may plant a difference.
    cases : sequence of Case
    repeats : int
    tell : callable, optional
        Told after each repeat.
    """
    made, started = Trust(comparison.trial.slower), time.monotonic()
    for number in range(repeats):
        held, first, final = comparison.times(cases, number * comparison.trial.numbers)
        told = [(held[case.id], c.clock) for case, c in zip(cases, first, strict=True) if c.clock]
        made.samples += [[(a[clock], b[clock]) for a, b in h.samples] for h, clock in told]
        made.first += first
        made.final += final
        made.seconds = time.monotonic() - started
        if tell is not None:
            tell(made)
    return made
