"""The fastest of a backend's settings for a case, of those that are right on every tail.

A candidate is verified on sizes about its tile (`harness.timing.tails`) before it is timed at all, and on the case before
and after it is timed. All are timed once, the better half again by turns, and the best few beside the default in
fresh processes: what is decided rests on times that did not choose the candidate.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from statistics import median
from typing import Any

from harness.backend import BackendInfo, Candidate, Device
from harness.catalogue import Case
from harness.checks import Problem, RunEnded
from harness.checks.base import Run
from harness.checks.exact import INTEGERS
from harness.checks.real import ZERO_MEAN
from harness.oracle.cache import OracleCache
from harness.records import Status, Verdict
from harness.run.limits import Limits
from harness.run.process import WorkerGone
from harness.spec import ConvSpec
from harness.statistics import Ratio, ratio
from harness.timing.measure import MOST, Calls, judged
from harness.timing.process import Side, TimedProcess, Troubled, pinned_cores
from harness.timing.tails import tails

#: Seconds of a turn, and calls in it, at most.
TURN, MOST_CALLS = 0.03, 400
#: How many times as long as the best a candidate may take that is timed again.
AGAIN = 1.2
#: Of a case's budget, for the search; the rest is for what decides.
SEARCH = 0.7
#: Is told what is being done.
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured, and what counts.

    Attributes
    ----------
    least : float
        The least gain for which a default is given up.
    confidence : float
        Of the interval of the ratio, which has to be below 1 as a whole.
    turns : int
        Of each candidate in a process that decides, and in the search at most.
    processes : int
        Fresh ones that decide.
    rounds : int
        Times as many where they leave it open.
    finalists : int
        Candidates that come there.
    """

    least: float = 0.03
    confidence: float = 0.99
    turns: int = 4
    processes: int = 2
    rounds: int = 3
    finalists: int = 3


@dataclass(frozen=True)
class Thrown:
    """A candidate that failed, and on which specification."""

    settings: Mapping[str, int]
    case: str
    spec: str
    verdict: Verdict


@dataclass
class Tuned:
    """What is known of a case.

    Attributes
    ----------
    case : Case
    candidates : int
        Of the backend's, the default among them.
    tried : int
        Verified and timed.
    default, best : float
        Medians of a call by the default settings and by the best ones, seconds; NaN where nothing was timed.
    settings : mapping, optional
        The best, None where the default stays.
    ratio : Ratio, optional
        Of the best candidate's times to the default's.
    thrown : list of Thrown
        What this case found; a candidate is thrown out once, whatever other cases it was meant for.
    note : str
        Why nothing was chosen.
    """

    case: Case
    candidates: int = 0
    tried: int = 0
    default: float = nan
    best: float = nan
    settings: Mapping[str, int] | None = None
    ratio: Ratio | None = None
    thrown: list[Thrown] = field(default_factory=list)
    note: str = ""

    @property
    def spec(self) -> ConvSpec:
        """The case's specification."""
        assert self.case.spec is not None
        return self.case.spec


def decide(
    default: Sequence[Sequence[float]], others: Sequence[Sequence[Sequence[float]]], effort: Effort
) -> tuple[int, Ratio]:
    """The fastest of the others, -1 if none beats the default by more than the noise, and the ratio of its times.

    Parameters
    ----------
    default : sequence of sequence of float
        The samples of each turn, seconds.
    others : sequence of those
        In the same turns.
    effort : Effort

    Examples
    --------
    >>> slow, fast = [[1.0, 1.01, 0.99]] * 6, [[0.8, 0.81, 0.79]] * 6
    >>> decide(slow, [slow, fast], Effort())[0], decide(slow, [slow], Effort())[0]
    (1, -1)
    """
    ratios = [ratio(list(zip(default, o, strict=True)), effort.confidence) for o in others]
    best = min(range(len(ratios)), key=lambda i: ratios[i].value)
    found = ratios[best]
    return (best if found.value <= 1 - effort.least and found.high < 1 else -1), found


def judge_tail(problem: Problem, run: Run) -> Verdict:
    """Exact integers, then zero-mean numbers by their bound."""
    verdict = INTEGERS.judge(problem, run)
    if verdict.status is not Status.PASS or ZERO_MEAN.applies(problem.case, problem.spec, problem.info) is not None:
        return verdict
    return ZERO_MEAN.judge(problem, run)


class Tuner:
    """Chooses settings of one backend on one device; a context manager that ends its process.

    Parameters
    ----------
    reference : str
        As `Registry.reference` gives it.
    info : BackendInfo
    device : Device
    limits : Limits
        Its `threads` are fixed.
    effort : Effort, optional
    seed : int
        Of data and orders.
    oracle : OracleCache, optional
        Of the same seed.
    """

    def __init__(
        self,
        reference: str,
        info: BackendInfo,
        device: Device,
        limits: Limits,
        effort: Effort | None = None,
        *,
        seed: int = 0,
        oracle: OracleCache | None = None,
    ) -> None:
        self.info, self.device, self.limits, self.effort = info, device, limits, effort or Effort()
        #: Verdicts on tails.
        self.verified = 0
        #: Processor time does not see other processes; what several threads spend is not how long it takes.
        self.clock = "cpu" if device.kind == "cpu" and limits.threads == 1 else "wall"
        self._side, self._cores = Side(info.name, reference), pinned_cores(limits.threads)
        self._oracle = oracle or OracleCache(seed)
        self._rng = random.Random(seed)  # noqa: S311 - orders, no secrets
        self._process: TimedProcess | None = None
        self._key: Mapping[str, str] | None = None
        self._judged: dict[tuple[Any, ...], Thrown | None] = {}
        self._problems: dict[ConvSpec, Problem] = {}

    # --- the process --------------------------------------------------------------------------------------
    def _live(self) -> TimedProcess:
        """The process, a new one if the last has ended."""
        if self._process is None or self._process.closed:
            self._process = TimedProcess(self._side, self.limits, self._cores)
            self._process.load()
        return self._process

    def _ask(self, op: str, /, **words: Any) -> dict[str, Any]:
        return self._live().ask(op, self.limits.load_seconds, **words)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def __enter__(self) -> Tuner:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- what is asked ------------------------------------------------------------------------------------
    def key(self) -> Mapping[str, str] | None:
        """The facts for which results hold; None if the backend cannot be tuned.

        Raises
        ------
        WorkerGone, Troubled
            If it cannot be asked.
        """
        found: Mapping[str, str] | None = self._ask("tunable", device=self.device.name)["key"]
        self._key = found
        return found

    def results(self, cases: Sequence[Case], budget: float | None = None, watch: Watch | None = None) -> Iterator[Tuned]:
        """Tune case by case; each gets its share of what is left of the budget, in seconds."""
        end = None if budget is None else time.monotonic() + budget
        for number, case in enumerate(cases):
            now = time.monotonic()
            if end is not None and number and now > end:
                yield Tuned(case, note="the budget was spent before it was reached")
                continue
            share = None if end is None else now + (end - now) / (len(cases) - number)
            yield self.tuned(case, share, watch or (lambda text: None))

    def tuned(self, case: Case, end: float | None, watch: Watch) -> Tuned:
        """Tune for one case, until about the time `end`."""
        made = Tuned(case)
        try:
            if (reason := self._ask("why_not", spec=made.spec.to_dict())["reason"]) is not None:
                return replace(made, note=f"{self.info.name} does not take it: {reason}")
            told = self._ask("candidates", spec=made.spec.to_dict(), device=self.device.name)["candidates"]
            found = [Candidate(**c) for c in told]
            made.candidates = len(found)
            if len(found) < 2:
                made.note = "there is nothing to choose: another kernel computes it"
                return made
            times = self._search(made, found, end, watch)
            if made.note:
                return made
            best = sorted(times, key=lambda i: median(times[i]))[: self.effort.finalists]
            self._final(made, [found[0], *(found[i] for i in best)], watch)
            if self._key is not None and self._ask("tunable", device=self.device.name)["key"] != self._key:
                made.settings, made.ratio = None, None
                made.note = "its kernels were edited meanwhile: start anew"
        except (WorkerGone, Troubled) as error:
            made.note = f"its process could not be used: {error}"
        finally:
            self._problems.pop(made.spec, None)  # its bounds are as large as its output
        return made

    # --- verified, timed once -----------------------------------------------------------------------------
    def _search(self, made: Tuned, found: Sequence[Candidate], end: float | None, watch: Watch) -> dict[int, list[float]]:
        """Times of every candidate that is right, as far as the time goes, as multiples of the default's just before.

        `made.note` says why there are none.
        """
        start, times = time.monotonic(), dict[int, list[float]]()
        latest = None if end is None else start + SEARCH * (end - start)
        default = found[0]
        for i, candidate in enumerate(found):
            if i > 1 and latest is not None and time.monotonic() > latest:
                break
            watch(f"{made.case.id}: {i + 1} of {len(found)}")
            made.tried += 1
            right = self._fails_tails(made, candidate) is None
            if i and right and (took := self._beside(made, default, candidate)) is not None:
                times[i] = [took]
            if made.note or (i == 0 and not right):
                made.note = made.note or "the default settings are wrong: there is nothing to compare with"
                return {}
        for _ in range(self.effort.turns - 1):
            near = [i for i in times if median(times[i]) <= AGAIN * min(median(v) for v in times.values())]
            for i in self._rng.sample(near, len(near)):
                if made.note or (latest is not None and time.monotonic() > latest):
                    break
                if (took := self._beside(made, default, found[i])) is None:
                    del times[i]
                else:
                    times[i].append(took)
        if not times and not made.note:
            made.note = "no candidate but the default is right"
        return times

    def _beside(self, made: Tuned, default: Candidate, candidate: Candidate) -> float | None:
        """How many times as long as the default a candidate takes; None where one of them is wrong, which `made` says."""
        before = self._on_case(made, default)
        if before is None:
            made.note = "the default settings are wrong: there is nothing to compare with"
            return None
        after = self._on_case(made, candidate)
        return None if after is None else after / before

    def _fails_tails(self, made: Tuned, candidate: Candidate) -> Thrown | None:
        """What a candidate fails on, of the sizes about its tile: judged once for all cases of these types."""
        spec, tile = made.spec, (candidate.pixels, candidate.filters)
        key = (spec.op, spec.dtypes, spec.flip, tuple(sorted(candidate.settings.items())), tile)
        if key not in self._judged:
            self._judged[key] = None
            for case in tails(spec, *tile):
                assert case.spec is not None
                if self._ask("why_not", spec=case.spec.to_dict())["reason"] is not None:
                    continue
                verdict = self._verdict(case, candidate)
                if verdict.status not in (Status.PASS, Status.FAIL, Status.UNSUPPORTED):
                    verdict = self._verdict(case, candidate)  # in a new process: the old one may have been worn out
                if verdict.status is Status.UNSUPPORTED:
                    continue
                self.verified += 1
                if verdict.status is not Status.PASS:
                    self._judged[key] = Thrown(candidate.settings, case.id, str(case.spec), verdict)
                    made.thrown.append(self._judged[key])  # type: ignore[arg-type]
                    break
        return self._judged[key]

    def _verdict(self, case: Case, candidate: Candidate) -> Verdict:
        assert case.spec is not None
        calls = self._calls(case.spec, candidate)
        try:
            calls.prepare()
            verdict = judged(self._problem(case), calls, judge_tail)
            if verdict.status is Status.PASS:
                calls.release()
        except RunEnded as error:
            verdict = error.verdict
        if verdict.status not in (Status.PASS, Status.UNSUPPORTED):
            self.close()  # what a failure leaves behind would be charged to the next
        return verdict

    def _on_case(self, made: Tuned, candidate: Candidate) -> float | None:
        """The median of a turn on the case, None where the candidate is wrong there."""
        calls = self._calls(made.spec, candidate)
        try:
            samples = self._turn(made, calls, before=True)
            self._after(made, calls)
            calls.release()
        except RunEnded as error:
            self._throw(made, candidate, error.verdict)
            return None
        return median(samples)

    def _final(self, made: Tuned, those: Sequence[Candidate], watch: Watch) -> None:
        """The default and the best few by turns, in fresh processes, in more where they leave it open; decides."""
        taken: dict[int, list[list[float]]] = {i: [] for i in range(len(those))}
        for number in range(1, self.effort.processes * self.effort.rounds + 1):
            watch(f"{made.case.id}: the best {len(those) - 1} beside the default, in process {number}")
            self._by_turns(made, those, taken)
            if 0 not in taken or len(taken) < 2:
                made.note = "no candidate but the default is right" if 0 in taken else "the default settings are wrong"
                made.ratio = None
                return
            if number % self.effort.processes:
                continue
            others = [i for i in taken if i]
            chosen, made.ratio = decide(taken[0], [taken[i] for i in others], self.effort)
            made.settings = those[others[chosen]].settings if chosen >= 0 else None
            if chosen >= 0 or made.ratio.value > 1 - self.effort.least:
                break
        assert made.ratio is not None
        made.default = median(v for turn in taken[0] for v in turn)
        # of turns side by side: medians of all samples would mix moments
        made.best = made.default * (made.ratio.value if made.settings is not None else 1.0)
        if made.settings is None:
            close = made.ratio.value > 1 - self.effort.least
            made.note = "the default is as fast as any" if close else "no candidate is faster by more than the noise"

    def _by_turns(self, made: Tuned, those: Sequence[Candidate], taken: dict[int, list[list[float]]]) -> None:
        """Add the samples of a fresh process; what fails there is no longer in `taken`."""
        self.close()
        for turn in range(self.effort.turns):
            for i in self._rng.sample(list(taken), len(taken)):
                calls = self._calls(made.spec, those[i])
                try:
                    samples = self._turn(made, calls, before=turn == 0)
                    if turn == self.effort.turns - 1:
                        self._after(made, calls)
                    calls.release()
                    taken[i].append(samples)
                except RunEnded as error:
                    self._throw(made, those[i], error.verdict)
                    del taken[i]

    def _turn(self, made: Tuned, calls: Calls, before: bool) -> list[float]:
        """Prepare, and sample for a while; judge first where it is the first time. Raises `RunEnded` where it is wrong."""
        calls.prepare()
        if before:
            _refuse(judged(self._problem(made.case), calls), "before the timing")
        else:
            calls.place(self._data(made.case))
        calls.sample(2, 0.0)
        calls.poison()
        told = calls.sample(min(MOST, MOST_CALLS), TURN)
        return list(told[self.clock])

    def _after(self, made: Tuned, calls: Calls) -> None:
        calls.output()
        _refuse(judged(self._problem(made.case), calls.given()), "the output timed last")

    def _throw(self, made: Tuned, candidate: Candidate, verdict: Verdict) -> None:
        self.close()
        if verdict.status is not Status.UNSUPPORTED:
            made.thrown.append(Thrown(candidate.settings, made.case.id, str(made.spec), verdict))

    def _calls(self, spec: ConvSpec, candidate: Candidate) -> Calls:
        calls = Calls(self._live(), spec, self.device.name, self.limits)
        calls.settings = candidate.settings
        return calls

    def _data(self, case: Case) -> Any:
        problem = self._problem(case)
        recipe = ("zero_mean",) if ZERO_MEAN.applies(case, problem.spec, self.info) is None else problem.exact
        return problem.data(*recipe)[0]

    def _problem(self, case: Case) -> Problem:
        assert case.spec is not None
        if case.spec not in self._problems:
            self._problems[case.spec] = Problem(case, case.spec, self.info, self.device, self._oracle)
        return self._problems[case.spec]


def _refuse(verdict: Verdict, when: str) -> None:
    if verdict.status is not Status.PASS:
        raise RunEnded(replace(verdict, message=f"{when}: {verdict.message or verdict.status}"))
