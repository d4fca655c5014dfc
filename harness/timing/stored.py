"""Two runs that are stored: compared without taking turns, so with less power and more doubt.

A drift of the machine between the runs looks like a change. So a change must be larger to count, and the way to be sure
is to compare the two again by turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from harness.records import Record
from harness.samples import TIMED, Timing
from harness.statistics import discoveries, separate_ratio
from harness.store.model import RunRow
from harness.timing.compare import MOST_WAITS, ONE_THREAD
from harness.timing.process import SideProblem
from harness.timing.rule import Change, Finding, Rule, error_finding

#: The least change that matters between two sittings: twice what does within one.
LEAST = 0.05
RULE = Rule(least=LEAST)
#: Processes of either side without which their scatter is not known, and so nothing of a difference.
FEWEST = 3
#: The least change of a largest error, the only one that is stored: in another order of summation it jumps about.
LEAST_ERROR = 0.5


def refuse_strangers(before: RunRow, after: RunRow) -> None:
    """Raise `SideProblem` where two runs' times cannot be compared, being of two machines."""
    if before.info.host != after.info.host:
        raise SideProblem(
            f"run {before.id} was made on another machine ({before.info.host or 'unknown'}) than run {after.id} "
            f"({after.info.host or 'unknown'}): times of two machines say nothing of the code; compare commits on one machine"
        )


def baseline_of(run: RunRow, runs: Sequence[RunRow]) -> RunRow:
    """The newest earlier benchmark of the same machine.

    Parameters
    ----------
    run : RunRow
    runs : sequence of RunRow
        The newest first.

    Raises
    ------
    SideProblem
        If there is none.
    """
    earlier = runs[[r.id for r in runs].index(run.id) + 1 :]
    alike = [r for r in earlier if r.info.environment.get("kind") == "bench" and r.info.host == run.info.host and r.finished]
    if not alike:
        raise SideProblem(f"there is no finished benchmark of this machine before run {run.id}: name the run to compare with")
    return alike[0]


def errors_of(records: Iterable[Record]) -> dict[tuple[str, str, str], float]:
    """(case, backend, device) to the largest error of the output timed last, in units of u A."""
    found = ((r.job, r.verdict.error_units) for r in records if r.job.check == TIMED)
    return {(job.case, job.backend, job.device): units for job, units in found if units is not None}


def compared_runs(
    runs: tuple[RunRow, RunRow],
    timings: tuple[Sequence[Timing], Sequence[Timing]],
    records: tuple[Iterable[Record], Iterable[Record]],
) -> list[Change]:
    """The changes from one run to another; of errors too, where both computed on the same data.

    Raises
    ------
    SideProblem
        If they are of two machines, or one has no timings.
    """
    refuse_strangers(*runs)
    for run, found in zip(runs, timings, strict=True):
        if not found:
            raise SideProblem(f"run {run.id} has no timings: `convproof bench` makes some")
    same_data = runs[0].info.seed == runs[1].info.seed
    return stored_changes(*timings, [errors_of(r) for r in records] if same_data else ())


def stored_changes(
    before: Sequence[Timing], after: Sequence[Timing], errors: Sequence[Mapping[tuple[str, str, str], float]] = ()
) -> list[Change]:
    """The changes of what both runs timed: the same case, content, backend and device.

    Parameters
    ----------
    before, after : sequence of Timing
    errors : pair of mapping, optional
        What `errors_of` says of either run; of one seed.
    """
    earlier = {(t.case, t.backend, t.device): t for t in before}
    made: list[Change] = []
    for t in after:
        old = earlier.get((t.case, t.backend, t.device))
        if old is None:
            continue
        blank = Change(t.case, t.backend, t.device, "time", Finding.NOT_COMPARED)
        if old.digest != t.digest:
            made.append(replace(blank, note="the case was edited in between"))
        elif old.threads != t.threads:
            made.append(replace(blank, note=f"{old.threads} threads before, {t.threads} after"))
        elif old.refused:
            made.append(replace(blank, note=f"no figure before: {old.refused}"))
        elif t.refused:
            made.append(replace(blank, finding=Finding.WRONG, note=t.refused))
        else:
            made.append(_time(blank, old, t))
            key = t.case, t.backend, t.device
            if errors and all(key in e for e in errors):
                finding, r = error_finding([errors[0][key]], [errors[1][key]], LEAST_ERROR)
                made.append(
                    replace(blank, quantity="error", finding=finding, ratio=r, before=errors[0][key], after=errors[1][key])
                )
    return _discovered(made)


def _discovered(changes: Sequence[Change]) -> list[Change]:
    """The changes; an alarm that is not among the discoveries of all cases is INCONCLUSIVE, as nothing is measured again."""
    times = [i for i, c in enumerate(changes) if c.quantity == "time" and c.ratio.pairs]
    stands = dict(zip(times, discoveries([changes[i].ratio.p for i in times]), strict=True))
    made = list(changes)
    for i in times:
        c = made[i]
        if c.finding in (Finding.SLOWER, Finding.FASTER) and not stands[i]:
            made[i] = replace(c, finding=Finding.INCONCLUSIVE, note="not certain beside so many cases")
    return made


def _time(blank: Change, old: Timing, new: Timing) -> Change:
    one_thread = old.threads == new.threads == 1
    clock = "cpu" if one_thread and _single(old) and _single(new) else "wall"
    if min(len(old.of(clock)), len(new.of(clock))) < FEWEST:
        return replace(blank, finding=Finding.INCONCLUSIVE, clock=clock, note=f"fewer than {FEWEST} processes on a side")
    r = separate_ratio(old.of(clock), new.of(clock), RULE.confidence)
    middles = [median(v for p in t.of(clock) for v in p) for t in (old, new)]
    return replace(blank, finding=RULE.finding(r), ratio=r, before=middles[0], after=middles[1], clock=clock)


def _single(timing: Timing) -> bool:
    """Whether one thread of the host did the work."""
    pairs = [(c, w) for cs, ws in zip(timing.of("cpu"), timing.of("wall"), strict=True) for c, w in zip(cs, ws, strict=True)]
    waits = float(timing.details.get("waits", 1.0))
    return bool(pairs) and waits <= MOST_WAITS and median(c / w for c, w in pairs) <= ONE_THREAD
