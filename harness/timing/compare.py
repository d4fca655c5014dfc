"""Two sides of one case, by turns, in pairs of fresh processes.

Each pair is two new processes, one a side, that live at the same time on the same cores and compute by turns in random
order: what the machine does in between meets both. All cases of the selection go through one pair of processes after the
other, so that the cost of starting them is shared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import ceil, inf, prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from harness.backend import AlgorithmClass, BackendInfo, Device
from harness.backend import Limits as Declared
from harness.catalogue import Case
from harness.checks import Problem, RunEnded
from harness.checks.compare import error
from harness.oracle.bound import unit
from harness.oracle.cache import OracleCache
from harness.records import Status, Verdict
from harness.run.limits import Limits
from harness.run.process import WorkerGone
from harness.samples import Series, Timing
from harness.statistics import ratio
from harness.timing.measure import Calls, judged
from harness.timing.process import Side, SideProblem, SideUnavailable, TimedProcess, Troubled, pinned_cores
from harness.timing.rule import Change, Finding, Rule, confirmed, error_finding

#: Pairs of processes, and turns of each side in a pair.
PAIRS, SAMPLES = 5, 20
#: Seconds of a turn, and samples in it. Shorter calls are repeated within a sample, so that the clocks' reading vanishes in
#: it, and it is short beside the slices of time by which a machine serves others, so that most samples hold none of them.
TURN, A_TURN = 0.008, 4
#: Turns without which a pair says nothing.
FEWEST = 3
#: Outputs over which errors are compared, at least; smaller cases get more sets of data.
OUTPUTS = 2000
#: Is told of a visit: its number, of how many, and the case's id.
Watch = Callable[[int, int, str], None]
#: Of an alarm: a p above this asks for more pairs.
SURE = 0.01
#: How much processor time a call may take beyond its duration and still count as that of one thread.
ONE_THREAD = 1.05
#: How often a call may give up the processor by itself (for a lock, a file, another process) and still count as all work.
MOST_WAITS = 0.05


@dataclass(frozen=True)
class Trial:
    """How a comparison is made.

    Attributes
    ----------
    pairs, samples : int
        `samples` turns of each side in a pair.
    seconds : float
        Of sampling both sides of a case in one pair, at most (but `FEWEST` samples are taken).
    clock : {'auto', 'cpu', 'wall', 'device'}
        `auto` is processor time where one thread of the host does all the work, else duration.
    rule : Rule
    rounds : int
        How many times as many pairs a case gets at most, while what it shows is INCONCLUSIVE.
    retest : bool
        Whether alarms are measured again in as many new pairs before they count.
    slower : float
        Makes the second side slower by this share: a planted regression.
    """

    pairs: int = PAIRS
    samples: int = SAMPLES
    seconds: float = 1.0
    clock: str = "auto"
    rule: Rule = field(default_factory=Rule)
    rounds: int = 3
    retest: bool = True
    slower: float = 0.0

    @property
    def numbers(self) -> int:
        """Pairs that a case uses at most, those of its second measurement among them."""
        return 2 * self.rounds * self.pairs


@dataclass
class Held:
    """What a case has shown so far: samples of both sides in each pair by clock, errors on each set of data.

    `loops` calls make a sample, `a_turn` samples a turn. `waits` counts how often the processes gave up the processor by
    themselves in all `calls`. `ended` says why there is nothing to compare.
    """

    device: str = ""
    backend: str = ""
    samples: list[tuple[dict[str, list[float]], dict[str, list[float]]]] = field(default_factory=list)
    errors: dict[int, tuple[float, float]] = field(default_factory=dict)
    loops: int = 0
    a_turn: int = 1
    waits: int = 0
    calls: int = 0
    ended: tuple[Finding, str] | None = None


class Comparison:
    """Compares two sides over cases.

    Parameters
    ----------
    before, after : Side
    cases : sequence of Case
        With specifications.
    limits : Limits
        Of each process; its `threads` are fixed.
    trial : Trial, optional
    seed : int
        Of data and orders.
    device : str, optional
        Part of a device's name; the first if not given.

    Raises
    ------
    SideProblem
        From `changes`, if a side cannot be loaded at all.
    """

    def __init__(
        self,
        before: Side,
        after: Side,
        cases: Sequence[Case],
        limits: Limits,
        trial: Trial | None = None,
        *,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.sides, self.cases, self.limits, self.trial = (before, after), list(cases), limits, trial or Trial()
        self.seed, self.device = seed, device
        self.cores = pinned_cores(limits.threads)
        self.devices: dict[str, dict[str, Any]] = {}
        self._oracles: dict[int, OracleCache] = {}
        self._clocks: dict[str, str] = {}
        self._rng = random.Random(seed)  # noqa: S311 - orders, no secrets

    def check(self) -> None:
        """Load both sides once; raises `SideProblem` if one cannot be, before anything is measured."""
        with ExitStack() as stack:
            self._pair(stack)

    def changes(self, watch: Watch | None = None) -> list[Change]:
        """Compare: for each case a change of its time and one of its error.

        `watch` is told (visit, of, case id) before each visit of a pair of processes to a case.
        """
        self.held, _, final = self.times(self.cases, 0, watch)
        errors = [self._error(case, self.held[case.id]) for case in self.cases if self.held[case.id].ended is None]
        return [*final, *errors]

    def times(
        self, cases: Sequence[Case], first: int, watch: Watch | None = None
    ) -> tuple[dict[str, Held], list[Change], list[Change]]:
        """Samples of the cases, what they say of the times, and what is left of it after alarms were measured again.

        Pairs of processes are numbered from `first` on; at most `Trial.numbers` of them are used.
        """
        held = self._settled(cases, first, watch)
        found = [self.time_change(case, held[case.id]) for case in cases]
        suspects = [i for i, c in enumerate(found) if c.finding in (Finding.SLOWER, Finding.FASTER)]
        final = list(found)
        if suspects and self.trial.retest:
            anew = self._settled([cases[i] for i in suspects], first + self.trial.pairs * self.trial.rounds, watch)
            again = [self.time_change(cases[i], anew[cases[i].id], self.trial.rule.again) for i in suspects]
            for i, change in zip(suspects, confirmed([found[i] for i in suspects], again), strict=True):
                final[i] = change
        return held, found, final

    def _settled(self, cases: Sequence[Case], first: int, watch: Watch | None) -> dict[str, Held]:
        """Samples of every case, more of those of which they do not tell enough."""
        held: dict[str, Held] = {case.id: Held() for case in cases}
        left = list(cases)
        for number in range(self.trial.rounds):
            self.trials(left, held, first + number * self.trial.pairs, watch)
            left = [c for c in left if self._unclear(self.time_change(c, held[c.id]))]
            if not left:
                break
        return held

    @staticmethod
    def _unclear(change: Change) -> bool:
        """Whether more pairs may tell more: nothing is certain yet, or an alarm rests on too few."""
        alarm = change.finding in (Finding.SLOWER, Finding.FASTER)
        return change.finding is Finding.INCONCLUSIVE or (alarm and change.ratio.p > SURE)

    def trials(self, cases: Sequence[Case], held: dict[str, Held], first: int, watch: Watch | None = None) -> None:
        """Add samples of every case in `Trial.pairs` new pairs of processes, numbered from `first`."""
        visits = 0
        for number in range(first, first + self.trial.pairs):
            order = [c for c in cases if held[c.id].ended is None]
            self._rng.shuffle(order)
            with ExitStack() as stack:
                processes: list[TimedProcess] | None = None
                for case in order:
                    visits += 1
                    if watch is not None:
                        watch(visits, self.trial.pairs * len(cases), case.id)
                    if processes is None or any(p.closed for p in processes):
                        for process in processes or ():
                            process.close()
                        try:
                            processes = self._pair(stack)
                        except SideProblem as e:
                            if len(self.devices) < len(self.sides):
                                raise
                            held[case.id].ended = Finding.WRONG, str(e)  # it could be loaded before
                            continue
                    self._visit(case, processes, number, held[case.id])

    def _pair(self, stack: ExitStack) -> list[TimedProcess]:
        """Two new processes, loaded in random order."""
        made: dict[int, TimedProcess] = {}
        for i in self._rng.sample((0, 1), 2):
            side = self.sides[i]
            try:
                made[i] = stack.enter_context(TimedProcess(side, self.limits, self.cores))
                told = made[i].load()
            except (WorkerGone, Troubled) as e:
                log = f": {e.log.rpartition(chr(10))[2]}" if isinstance(e, WorkerGone) and e.log else ""
                raise SideProblem(f"{side.label}: {side.reference} cannot be loaded there: {e}{log}") from e
            if side.root and not Path(told["file"]).resolve().is_relative_to(Path(side.root).resolve()):
                where = told["file"] or "a module without a file"
                raise SideProblem(
                    f"{side.label}: its code is {where}, which is not in the commit: every commit would be measured by the same"
                )
            if not told["devices"]:
                why = ": ".join(filter(None, (told["reason"], told["hint"])))
                raise SideUnavailable(f"{side.label}: {told['name']} has no device: {why}")
            self.devices.setdefault(side.label, told)
        return [made[0], made[1]]

    def _visit(self, case: Case, processes: Sequence[TimedProcess], number: int, held: Held) -> None:
        """One pair's samples of a case; what cannot be compared ends the case."""
        try:
            if calls := self._calls(case, processes, held):
                self._sample(case, calls, number, held)
        except RunEnded as e:
            for process in processes:
                process.close()  # what a failure leaves behind would be charged to the next case
            status, text = e.verdict.status, e.verdict.message
            ended = Finding.NOT_COMPARED if status in (Status.UNSUPPORTED, Status.NOT_RUN) else Finding.WRONG
            held.ended = ended, f"{status}: {text}"
        except (WorkerGone, Troubled) as e:
            held.ended = Finding.WRONG, str(e)

    def _calls(self, case: Case, processes: Sequence[TimedProcess], held: Held) -> list[tuple[Calls, BackendInfo, Device]]:
        """What calls each side on a case, with what judging it needs; none where a side does not take the case."""
        assert case.spec is not None
        calls = []
        for process in processes:
            told = self.devices[process.side.label]
            device = self.device_of(told)
            if device is None:
                held.ended = Finding.NOT_COMPARED, f"{process.side.label} has no device that matches {self.device!r}"
                return []
            reason = process.ask("why_not", self.limits.seconds, spec=case.spec.to_dict())["reason"]
            if reason is not None:
                held.ended = Finding.NOT_COMPARED, f"{process.side.label} does not take it: {reason}"
                return []
            held.device, held.backend = device.name, told["name"]
            calls.append((Calls(process, case.spec, device.name, self.limits), _info(told), device))
        return calls

    def device_of(self, told: Mapping[str, Any]) -> Device | None:
        """The device on which a side is measured, of those that it tells; None if none matches."""
        names = ("name", "kind", "denormals", "rounding", "properties")
        found = [Device(**{n: d[n] for n in names}) for d in told["devices"]]
        wanted = [d for d in found if self.device is None or self.device.lower() in d.name.lower()]
        return wanted[0] if wanted else None

    def _sample(self, case: Case, calls: list[tuple[Calls, BackendInfo, Device]], number: int, held: Held) -> None:
        spec, trial = case.spec, self.trial
        assert spec is not None
        sets = min(trial.pairs, ceil(OUTPUTS / max(1, prod(spec.out_shape))))
        data = number % sets
        oracle = self._oracles.setdefault(data, OracleCache(self.seed + data))
        problems = [Problem(case, spec, info, device, oracle) for _, info, device in calls]
        for (call, _, _), problem, side in zip(calls, problems, self.sides, strict=True):
            call.prepare()
            _refuse(judged(problem, call), side, "before the timing")
        extra: tuple[dict[str, Any], dict[str, Any]] = {}, {"slower": trial.slower} if trial.slower else {}
        if not held.loops:
            once = max(min(call.sample(3, 0.5)["wall"]) for call, _, _ in calls)
            held.loops = max(1, round(TURN / A_TURN / once))
            held.a_turn = max(1, min(A_TURN, round(TURN / (held.loops * once))))
        warm = [call.sample(held.a_turn, TURN, loops=held.loops)["wall"] for call, _, _ in calls]
        spent = max(map(sum, warm)) * held.loops
        count = max(FEWEST, min(trial.samples, int(trial.seconds / (2 * spent))))
        taken: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
        for _ in range(count):
            for i in self._rng.sample((0, 1), 2):
                calls[1 - i][0].process.pause()
                calls[i][0].poison()
                told = calls[i][0].sample(held.a_turn, self.limits.seconds, loops=held.loops, **extra[i])
                for name in ("wall", "cpu", "device"):
                    taken[i].setdefault(name, []).extend(told[name])
                held.waits += told["waits"]
                held.calls += held.loops * held.a_turn
        held.samples.append(taken)
        figures = []
        for (call, _, _), problem, side in zip(calls, problems, self.sides, strict=True):
            out = call.output()
            _refuse(judged(problem, call.given()), side, "the output timed last")
            figures.append(_rms(problem, out, call))
            call.release()
        held.errors[data] = figures[0], figures[1]

    def clock_of(self, case: Case, held: Held) -> str:
        """The clock by which a case is compared, once and for all: processor time sees neither waiting nor other processes."""
        if self.trial.clock != "auto":
            return self.trial.clock
        if case.id not in self._clocks:
            kinds = {d["kind"] for told in self.devices.values() for d in told["devices"] if d["name"] == held.device}
            busy = max(median(c / w for c, w in zip(s["cpu"], s["wall"], strict=True)) for pair in held.samples for s in pair)
            works = held.waits <= MOST_WAITS * held.calls and busy <= ONE_THREAD
            self._clocks[case.id] = "cpu" if kinds == {"cpu"} and self.limits.threads == 1 and works else "wall"
        return self._clocks[case.id]

    def time_change(self, case: Case, held: Held, rule: Rule | None = None) -> Change:
        """The change of a case's time that its samples show, by the trial's rule or another."""
        rule = rule or self.trial.rule
        blank = Change(case.id, held.backend, held.device, "time", Finding.NOT_COMPARED)
        if held.ended is not None:
            return replace(blank, finding=held.ended[0], note=held.ended[1])
        clock = self.clock_of(case, held)
        pairs = [(a[clock], b[clock]) for a, b in held.samples if a.get(clock) and b.get(clock)]
        if not pairs:
            return replace(blank, note=f"no samples by the clock {clock!r}: this backend has none")
        if not all(0 < v < inf for pair in pairs for side in pair for v in side):
            return replace(blank, note=f"the clock {clock!r} tells times that are not above 0")
        r = ratio(pairs, rule.confidence, self.seed)
        middles = [median(v for pair in pairs for v in pair[i]) for i in (0, 1)]
        return replace(blank, finding=rule.finding(r), ratio=r, before=middles[0], after=middles[1], clock=clock)

    def _error(self, case: Case, held: Held) -> Change:
        before, after = zip(*held.errors.values(), strict=True)
        finding, r = error_finding(before, after)
        return Change(case.id, held.backend, held.device, "error", finding, r, median(before), median(after))

    def timings(self) -> Iterator[Timing]:
        """The samples of both sides, each under its label, for the store."""
        for case in self.cases:
            held, spec = self.held[case.id], case.spec
            assert spec is not None
            for i, side in enumerate(self.sides):
                series = tuple(
                    Series(name, "warm", n, tuple(values))
                    for n, pair in enumerate(held.samples)
                    for name, values in pair[i].items()
                    if values
                )
                yield Timing(
                    case.id,
                    side.label,
                    held.device or "-",
                    series,
                    refused="" if held.ended is None else held.ended[1],
                    threads=self.limits.threads,
                    flops=spec.flops,
                    bytes=spec.bytes,
                    stopped=f"{len(held.samples)} pairs",
                    digest=case.version,
                    details={
                        "loops": held.loops,
                        "reference": side.reference,
                        "digest": side.digest,
                        "cores": list(self.cores),
                    },
                )


def _info(told: Mapping[str, Any]) -> BackendInfo:
    """What judging needs of the facts that a timed process tells of its backend."""

    def algorithm(fields: Mapping[str, Any]) -> AlgorithmClass:
        return AlgorithmClass(**_tuples(fields))

    transforms = tuple((Declared(**_tuples(limits)), algorithm(made)) for limits, made in told.get("transforms", ()))
    return BackendInfo(told["name"], algorithm=algorithm(told["algorithm"]), transforms=transforms)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples: its lists are those of a record."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _refuse(verdict: Verdict, side: Side, when: str) -> None:
    """End the case if an output is wrong: the time of a wrong result says nothing."""
    if verdict.status is not Status.PASS:
        raise RunEnded(replace(verdict, message=f"{side.label}, {when}: {verdict.message or verdict.status}"))


def _rms(problem: Problem, out: np.ndarray, calls: Calls) -> float:
    """The root mean square error of an output in units of u A; 0 for exact ones."""
    spec = problem.spec
    assert calls.last is not None
    recipe = ("zero_mean",) if spec.in_type.is_float else problem.exact
    _, ref = problem.data(*recipe)
    if not out.size:
        return 0.0
    units = error(out, ref, spec, equal=spec.op == "max_pool") / unit(spec, ref)
    return float(np.sqrt(np.mean(np.square(units))))
