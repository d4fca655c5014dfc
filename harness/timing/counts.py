"""Two sides compared by the instructions of a call: what `compare --instructions` does."""

from __future__ import annotations

from dataclasses import replace

from harness.catalogue import Case
from harness.statistics import Ratio
from harness.timing.compare import FEWEST, Comparison, Held
from harness.timing.instructions import NotCounted, count, ratio_verdict
from harness.timing.rule import Change, Finding


def counted_changes(comparison: Comparison) -> list[Change]:
    """A change of instructions for each case whose outputs are right on both sides; why there is none for the others.

    The outputs are verified in one pair of processes without valgrind, on the machine's own instructions.
    """
    full, comparison.trial = comparison.trial, replace(comparison.trial, pairs=1, samples=FEWEST, seconds=0.0, rounds=1)
    held = {case.id: Held() for case in comparison.cases}
    try:
        comparison.trials(comparison.cases, held, 0)
    finally:
        comparison.trial = full
    return [_change(comparison, case, held[case.id]) for case in comparison.cases]


def _change(comparison: Comparison, case: Case, held: Held) -> Change:
    change = Change(case.id, held.backend, held.device, "instructions", Finding.NOT_COMPARED)
    if held.ended is not None:
        return replace(change, finding=held.ended[0], note=held.ended[1])
    found = []
    for side in comparison.sides:
        device = comparison.device_of(comparison.devices[side.label])
        assert device is not None
        try:
            found.append(count(side, case, device, comparison.limits, comparison.seed))
        except NotCounted as e:
            return replace(change, note=f"{side.label} not counted: {e}")
    before, after = found
    value, reach = after.instructions / before.instructions, before.spread + after.spread
    return replace(
        change,
        finding=ratio_verdict(before, after),
        ratio=Ratio(value, value * (1 - reach), value * (1 + reach), (value,), 0.0),
        before=before.instructions,
        after=after.instructions,
    )
