"""When a difference is an alarm: the rule, its verdicts, and what it misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf, isfinite, nan

from harness.statistics import Ratio, discoveries


class Finding(StrEnum):
    """What a comparison says."""

    SLOWER = "SLOWER"
    FASTER = "FASTER"
    SAME = "SAME"
    INCONCLUSIVE = "INCONCLUSIVE"
    LESS_ACCURATE = "LESS ACCURATE"
    MORE_ACCURATE = "MORE ACCURATE"
    WRONG = "WRONG"
    NOT_COMPARED = "NOT COMPARED"


#: Findings that make a comparison fail.
ALARMS = frozenset({Finding.SLOWER, Finding.LESS_ACCURATE, Finding.WRONG})


@dataclass(frozen=True)
class Rule:
    """When a ratio of times is an alarm.

    All of: the interval of the median ratio leaves 1 out; so many pairs of processes lie on the same side; the median is
    further from 1 than a change that matters. One pair's luck meets the first alone too often: over five pairs a
    bootstrap's 99 % interval is little more than their range, which leaves 1 out in one of 16 trials of nothing.

    Attributes
    ----------
    confidence : float
        Of the interval.
    agreeing : float
        Share of pairs.
    least : float
        The least change that matters; an interval within it on either side of 1 is SAME.
    """

    confidence: float = 0.99
    agreeing: float = 0.8
    least: float = 0.025

    @property
    def again(self) -> Rule:
        """The rule of the second trial of an alarm: an interval of 95 % where the first had a wider one.

        Both trials are independent and must err on the same side, so that nothing raises an alarm with a probability of at
        most (1 - confidence) / 2 times 1/40; at 99 % again, one in ten real changes of 10 % was lost on two threads.
        """
        return replace(self, confidence=min(self.confidence, 0.95))

    def finding(self, r: Ratio) -> Finding:
        """SLOWER, FASTER, SAME or INCONCLUSIVE.

        Examples
        --------
        >>> Rule().finding(Ratio(1.1, 1.05, 1.15, (1.1, 1.1, 1.05), 0.01)).value
        'SLOWER'
        >>> Rule().finding(Ratio(1.1, 0.95, 1.15, (1.1, 1.1, 0.95), 0.2)).value
        'INCONCLUSIVE'
        """
        most = 1 + self.least
        if not isfinite(r.value):
            return Finding.INCONCLUSIVE
        if r.agreeing >= self.agreeing:
            if r.low > 1 and r.value > most:
                return Finding.SLOWER
            if r.high < 1 and r.value < 1 / most:
                return Finding.FASTER
        return Finding.SAME if r.low > 1 / most and r.high < most else Finding.INCONCLUSIVE


@dataclass(frozen=True)
class Change:
    """One quantity of a case, before and after.

    Attributes
    ----------
    case, backend, device : str
        `backend` of the second side.
    quantity : {'time', 'error', 'instructions'}
    finding : Finding
    ratio : Ratio
        After to before; above 1 is worse.
    before, after : float
        Medians, seconds a call; errors in units of u A, root mean square over the outputs; instructions a call.
    clock : str
        `cpu`, `wall` or `device`, for times.
    note : str
        What else is to be said.
    """

    case: str
    backend: str
    device: str
    quantity: str
    finding: Finding
    ratio: Ratio = field(default_factory=lambda: Ratio(nan, nan, nan, (), 1.0))
    before: float = nan
    after: float = nan
    clock: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Case and device."""
        return self.case, self.device


def confirmed(alarms: Sequence[Change], again: Sequence[Change], rate: float = 0.05) -> list[Change]:
    """What is left of alarms after a second, independent trial.

    An alarm stands if the second trial raises the same one, and its one-sided p belongs to the discoveries among all that
    were tried again, at a false discovery rate of `rate`. The figures are those of the second trial: the first was picked
    for being large. What does not stand is INCONCLUSIVE.

    Parameters
    ----------
    alarms, again : sequence of Change
        In one order.
    """
    stands = discoveries([c.ratio.p_ahead for c in again], rate)
    made = []
    for first, second, stood in zip(alarms, again, stands, strict=True):
        if second.finding is first.finding and stood:
            made.append(replace(second, note=f"measured twice, first {first.ratio.value:.3f}"))
        elif second.finding in (Finding.WRONG, Finding.NOT_COMPARED):
            made.append(second)
        else:
            text = f"an alarm of {first.ratio.value:.3f} was not confirmed"
            finding = second.finding if second.finding is Finding.SAME else Finding.INCONCLUSIVE
            made.append(replace(second, finding=finding, note=text))
    return made


#: How much larger an error must be to count: that of right sums in another order differs by less.
LEAST_ERROR = 0.10


def error_finding(before: Sequence[float], after: Sequence[float], least: float = LEAST_ERROR) -> tuple[Finding, Ratio]:
    """What errors on the same data, one figure a set of data, say of two sides.

    Root mean squares over the outputs: the maximum of an error that only rounds in another order jumps about, its root
    mean square over 2000 outputs stays within a few percent. All sets must agree, and the median differ by `least`.

    Examples
    --------
    >>> error_finding([0.2, 0.21], [0.4, 0.41])[0].value, error_finding([0.0], [0.0])[0].value
    ('LESS ACCURATE', 'SAME')
    """
    ratios = sorted(_quotient(b, a) for a, b in zip(before, after, strict=True))
    if not ratios:
        return Finding.NOT_COMPARED, Ratio(nan, nan, nan, (), 1.0)
    middle = ratios[len(ratios) // 2]
    r = Ratio(middle, ratios[0], ratios[-1], tuple(ratios), 1.0)
    if r.low > 1 and middle > 1 + least:
        return Finding.LESS_ACCURATE, r
    if r.high < 1 and middle < 1 / (1 + least):
        return Finding.MORE_ACCURATE, r
    return Finding.SAME, r


def _quotient(after: float, before: float) -> float:
    if after == before:
        return 1.0
    if not isfinite(after):
        return inf
    return after / before if before > 0 else inf
