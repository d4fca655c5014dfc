"""From a case that fails to the smallest found that still fails the same check in the same way.

First the specification, by a greedy search over `harness.fuzzing.edits`: of the smaller specifications the first that
fails is taken, until none does. Then the numbers, by `harness.fuzzing.numbers`: fewest nonzero elements, smallest
integers. A search of our own, not Hypothesis': a step costs a run of the backend, sometimes the life of its worker, so
what matters is that bold steps come first and that the time is bounded.

Slippage (ending at another fault than the one begun with): the check and the status stay the same, and the type of an
exception or the signal of a death. Where a diagnosis was made the result has one of the same: the search runs without
(a diagnosis costs more than a verdict), then goes back along its path to the last specification with the diagnosis,
and on from there with it. Last, what is found has to fail in a worker that has run nothing before.

References
----------
Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 28(2), 2002: one-minimal results by
removing ever smaller parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from harness.catalogue import Case
from harness.fuzzing.bench import FAULTS, PATIENCE, Bench, Clock, Judged, diagnoses, kind
from harness.fuzzing.cases import case_of, weak
from harness.fuzzing.edits import EDITS
from harness.fuzzing.numbers import shrink_numbers
from harness.records import Status
from harness.spec import ConvSpec

#: Seconds that shrinking one failure may take.
SHRINK_TIME = 10.0
#: The share of them kept for the numbers.
FOR_NUMBERS = 0.4
#: How often a failure is repeated before it is given up as one that comes and goes.
TRIES = 3
#: Checks whose data are exact numbers, so that numbers can be found that show what they show.
EXACT = frozenset({"literal", "integers", "impulses", "operator", "identity"})
#: Specifications that numbers are looked for on, the smallest first.
EARLIER = 6


@dataclass(frozen=True)
class Shrunk:
    """What shrinking came to.

    Attributes
    ----------
    origin : Case
        The case that failed.
    check : str
        The check that it failed.
    found : Judged
        The smallest case that fails, its verdict and the call that shows it. Its check is `literal` where the case
        has numbers of its own.
    spec : Judged
        The smallest specification that fails `check`, with the recipe's own data.
    judged : int
        Cases that were tried.
    seconds : float
    complete : bool
        Whether the search ended by itself, before its time was over.
    """

    origin: Case
    check: str
    found: Judged
    spec: Judged
    judged: int
    seconds: float
    complete: bool

    @property
    def elements(self) -> int:
        """Elements of the input."""
        assert self.found.case.spec is not None
        return prod(self.found.case.spec.x_shape)


def shrink(case: Case, checks: Sequence[str], bench: Bench, seconds: float = SHRINK_TIME) -> Shrunk | None:
    """The smallest case found that fails a check on the bench's backend as `case` does.

    Parameters
    ----------
    case : Case
    checks : sequence of str
        Names of `harness.checks.CHECKS` that the case ends badly; the first that fails again alone is pursued. (What
        depends on the calls before it may not.)
    bench : Bench
    seconds : float
        After which the smallest case found so far is returned.

    Returns
    -------
    Shrunk or None
        None if the case does not end badly when it is repeated.
    """
    clock, before = Clock(seconds), bench.asked
    first = _again(case, checks, bench)
    if first is None or case.spec is None:
        return None
    hunt = _Hunt(bench, first, Clock(seconds * (1 - FOR_NUMBERS)))
    complete = hunt.search(first, diagnose=False)
    best = hunt.settled()
    if best is not hunt.path[-1] and hunt.named:
        complete = hunt.search(best, diagnose=True)
        best = hunt.settled()
    path = hunt.path[: hunt.path.index(best) + 1]
    found = _numbers(path, bench, clock) if first.verdict.status is Status.FAIL else None
    return Shrunk(case, first.check, found or best, best, bench.asked - before, clock.spent, complete)


class _Hunt:
    """The search for the smallest specification: from where, under what, and the path so far."""

    def __init__(self, bench: Bench, first: Judged, clock: Clock) -> None:
        self.bench, self.clock, self.path = bench, clock, [first]
        self.kind, self.named = kind(first.verdict), frozenset(diagnoses(first.verdict))
        self._patience = PATIENCE if first.verdict.status is Status.TIMEOUT else None

    def search(self, start: Judged, *, diagnose: bool) -> bool:
        """Go on from a specification of the path; whether the search ended by itself."""
        del self.path[self.path.index(start) + 1 :]

        def fails(spec: ConvSpec) -> bool:
            if prod(spec.out_shape) == 1 or weak(spec):
                return False  # what is constant, or the input itself, would pass
            judged = self._judged(case_of(spec), diagnose=diagnose)
            if judged is not None:
                self.path.append(judged)
            return judged is not None

        assert start.case.spec is not None
        return smallest(start.case.spec, fails, self.clock)[1]

    def settled(self) -> Judged:
        """The last of the path that fails alone, with the diagnosis; while there is time to look for it."""
        plain: Judged | None = None
        for judged in reversed(self.path):
            if self.named and self._judged(judged.case, diagnose=True) is None:
                if plain is None and self._judged(judged.case, alone=True):
                    plain = judged
            elif self._judged(judged.case, alone=True):
                return judged
            if self.clock.over:
                break
        return plain or self.path[0]

    def _judged(self, case: Case, *, diagnose: bool = False, alone: bool = False) -> Judged | None:
        """The judgement of a case that fails as the first one did, None of any other."""
        judged = self.bench.judge(case, self.path[0].check, patience=self._patience, diagnose=diagnose, alone=alone)
        if judged is None or kind(judged.verdict) != self.kind:
            return None
        if diagnose and self.named and not self.named.intersection(diagnoses(judged.verdict)):
            return None
        return judged


def _numbers(path: Sequence[Judged], bench: Bench, clock: Clock) -> Judged | None:
    """Numbers that show the fault in a worker which has run nothing before, on the smallest specification that has any.

    On one element of circular input, say, every output is the same, and the catalogue takes no such numbers; then the
    specifications before it are tried, where the fault is one of exact numbers.
    """
    for judged in reversed(path[-EARLIER:] if path[-1].check in EXACT else path[-1:]):
        numbers = shrink_numbers(judged, bench, clock)
        if numbers is None:
            continue
        again = bench.judge(numbers.case, numbers.check, alone=True)
        if again is not None and again.verdict.status is Status.FAIL:
            return numbers
    return None


def _again(case: Case, checks: Sequence[str], bench: Bench) -> Judged | None:
    """The first of the checks that ends badly again, on the case as it would be drawn, else with its own numbers."""
    for check in checks:
        for _ in range(TRIES):
            if check == "literal" and case.spec is not None:
                # numbers of its own hold a case to its sizes: any integers will do to shrink them
                judged = bench.judge(case_of(case.spec), "integers", diagnose=True)
                if judged is not None and judged.verdict.status in FAULTS:
                    return judged
            judged = bench.judge(case, check, diagnose=True)
            if judged is not None and judged.verdict.status in FAULTS:
                return judged
    return None


def smallest(spec: ConvSpec, fails: Callable[[ConvSpec], bool], clock: Clock) -> tuple[ConvSpec, bool]:
    """Follow the edits for as long as `fails` holds; the last specification, and whether no edit is left.

    Examples
    --------
    >>> big = ConvSpec("conv", (33, 9), (3, 3), in_channels=8, out_channels=4, stride=(2, 1), bias=True)
    >>> print(smallest(big, lambda s: s.in_size[-1] > 5 and s.stride[0] > 1, Clock(9))[0])
    conv x[1, 1, 6] w[1, 1, 1] s[2] f32
    """
    seen = {spec}
    moved = True
    while moved:
        moved = False
        for edit in EDITS:
            stepped = True
            while stepped:
                stepped = False
                for candidate in edit(spec):
                    if clock.over:
                        return spec, False
                    if candidate in seen:
                        continue
                    seen.add(candidate)
                    if fails(candidate):
                        spec, moved, stepped = candidate, True, True
                        break
    return spec, True
