"""One case in one fresh process: verified, timed until enough is known, verified again.

A figure stands only if the output on real data was right before the timing, the output of the call timed last is
right, and calls on changed numbers take no longer than calls on the same ones (a backend that keeps its results
would be timed at its memory).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from statistics import median
from time import perf_counter
from traceback import format_exc
from typing import Any

import numpy as np

from harness.checks import Problem, RunEnded, Trial
from harness.checks.base import Run
from harness.checks.contract import pattern, unwritten, unwritten_verdict
from harness.checks.exact import judge_exact
from harness.checks.real import ZERO_MEAN
from harness.data import Operands
from harness.oracle.bound import NoBound
from harness.records import Status, Verdict
from harness.run.arena import Desk, layout
from harness.run.limits import Limits
from harness.run.link import trouble_status
from harness.run.process import WorkerGone
from harness.run.serve import describe
from harness.samples import PHASE, Series
from harness.spec import ConvSpec
from harness.statistics import figure
from harness.timing.process import TimedProcess, Troubled

#: Seconds of samples between two looks at what is known; the output is poisoned before each.
CHUNK = 0.05
#: Samples in a chunk, at most: a reply of a hundred kilobytes.
MOST = 2000
#: Samples without which nothing is said, and with which the noise may count as stable.
FEWEST, STABLE = 5, 50
#: Seconds of samples before the interval is believed: in less, the machine may have been in one of its moods throughout.
LEAST = 0.15
#: Chunks over which the noise must have stayed the same, and by how much it may vary.
STEADY, DRIFT = 5, 0.05
#: Bytes that are written before a cold call, at most, and calls with cold caches.
SCRUB, COLD = 128 << 20, 7
#: Calls on changed numbers, and how many times longer they may take than calls on the same ones.
RENEWALS, REUSE = 10, 2.0
#: Bytes of an output that other operands do not give again by chance.
TELLING = 32
#: How far two clocks of one machine may differ, in seconds and as a share.
CLOCKS = 0.01
#: Seconds that warming up takes, at least.
WARM_UP = 0.05


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes
    ----------
    precision : float
        Half the 95 % interval of the median, relative to it, at which sampling stops.
    seconds : float
        Of sampling a case in one process, at most (but `FEWEST` samples are taken).
    cold : bool
        Whether calls with cold caches are timed too.
    scrub : int
        Bytes written before each of those.
    """

    precision: float = 0.01
    seconds: float = 1.0
    cold: bool = True
    scrub: int = SCRUB


@dataclass
class Measured:
    """What one process told of a case: samples, how sampling ended, the verdict, peak memory, voluntary waits a call."""

    series: list[Series] = field(default_factory=list)
    stopped: str = ""
    verdict: Verdict = field(default_factory=lambda: Verdict(Status.NOT_RUN, "not reached"))
    peak_bytes: int | None = None
    waits: float = 0.0


@dataclass
class Given:
    """A `Run` that gives the output that is there."""

    last: Trial | None

    def __call__(self, ops: Operands, **how: object) -> np.ndarray:
        """The output, whatever is asked."""
        assert self.last is not None
        assert self.last.out is not None
        return self.last.out

    def together(self, sets: Sequence[Operands]) -> list[np.ndarray]:
        """Not here."""
        raise NotImplementedError

    def elsewhere(self, ops: Operands) -> np.ndarray:
        """Not here."""
        raise NotImplementedError


class Calls:
    """Calls of a case in a timed process; `__call__` is the `Run` that a check is given.

    Parameters
    ----------
    process : TimedProcess
        Loaded.
    spec : ConvSpec
    device : str
    limits : Limits

    Attributes
    ----------
    settings : mapping of str to int, optional
        By which it is prepared, of a backend that can be tuned; its own choice if None.
    """

    def __init__(self, process: TimedProcess, spec: ConvSpec, device: str, limits: Limits) -> None:
        self.process, self.spec, self.device, self.limits = process, spec, device, limits
        self.settings: Mapping[str, int] | None = None
        self.last: Trial | None = None
        self._lay = layout(spec)
        self._desk = Desk(process.arena, self._lay, spec.out_dtype)
        self._ops: Operands | None = None
        self._sealed = 0

    def prepare(self) -> float:
        """Prepare; the seconds it took."""
        slots = [[s.name, s.offset, list(s.shape), s.dtype] for s in self._lay.slots]
        words: dict[str, Any] = {"spec": self.spec.to_dict(), "device": self.device, "slots": slots, "size": self._lay.size}
        if self.settings is not None:  # the side may be an installation that knows no settings
            words["settings"] = dict(self.settings)
        return float(self._ask("prepare", self.limits.load_seconds, **words)["seconds"])

    def __call__(self, ops: Operands, **how: object) -> np.ndarray:
        """Run once on `ops`; a copy of the output. Raises `RunEnded` where there is none, or the contract was broken."""
        self.place(ops)
        self.sample(1, 0.0)
        return self.output()

    def together(self, sets: Sequence[Operands]) -> list[np.ndarray]:
        """Not here: no check that needs it is run on a timed process."""
        raise NotImplementedError

    def elsewhere(self, ops: Operands) -> np.ndarray:
        """Not here: no check that needs it is run on a timed process."""
        raise NotImplementedError

    def place(self, ops: Operands) -> None:
        """Lay the operands out."""
        self._ops = ops
        self._desk.place(ops, pattern(self.spec.out_dtype, 0))

    def poison(self) -> None:
        """Fill the output, so that a call that writes nothing cannot pass for one that did."""
        poison = pattern(self.spec.out_dtype, 0)
        self._desk.arrays["out"].view(poison.dtype)[...] = poison

    def sample(self, count: int, seconds: float, **more: Any) -> dict[str, Any]:
        """Timed calls; see `harness.timing.child.Timed.sample`.

        Raises
        ------
        RunEnded
            If a call left its output as it was, or what it tells of its time cannot be.
        """
        start = perf_counter()
        told = self._ask("sample", self.limits.seconds * max(1, min(count, 3)) + seconds, count=count, seconds=seconds, **more)
        elapsed = perf_counter() - start
        self._sealed = told["sealed"]
        wrong = ""
        if told["unwritten"]:
            wrong = f"{told['unwritten']} of {len(told['wall'])} timed calls left their output as it was"
        elif min(told["wall"]) < 0 or sum(told["wall"]) * more.get("loops", 1) > elapsed * (1 + CLOCKS) + CLOCKS:
            wrong = "its clock is not this machine's: calls took longer than all of them together, or less than no time"
        elif not all(0 <= v < inf for v in (*told["device"], *(v for values in told["phases"].values() for v in values))):
            wrong = "it tells phases or device times that are no durations"
        if wrong:
            raise RunEnded(Verdict(Status.FAIL, wrong, compared=1, mismatches=1))
        return told

    def output(self) -> np.ndarray:
        """A copy of what the last call wrote, once it is found that it wrote all of it, in time, and nothing else."""
        assert self._ops is not None
        out = self._desk.arrays["out"].copy()
        self.last = Trial(self.spec, self._ops, out)
        if (what := self._desk.damage(self._ops)) is not None:
            raise RunEnded(Verdict(Status.FAIL, what, compared=1, mismatches=1))
        if self.spec.out_type.is_float and bool(np.any(missing := unwritten(out, self.spec.out_dtype, 0))):
            raise RunEnded(unwritten_verdict(missing))
        if zlib.crc32(out.tobytes()) != self._sealed:
            raise RunEnded(Verdict(Status.FAIL, "its output changed after run() had returned", compared=1, mismatches=1))
        return out

    def reuse(self, seconds: float) -> str:
        """Why earlier calls' work seems to be used again, where the numbers changed or where they did not; empty if not.

        Operands whose elements moved on by one, and the same once more, by turns: at least twice, then until the time is
        over. They are written here, out of the backend's reach, before either kind of call.
        """
        assert self._ops is not None
        ops, taken, spent = self._ops, {True: list[float](), False: list[float]()}, 0.0
        last = None
        for turn in range(1, RENEWALS + 1):
            x, w, b = (None if a is None else np.roll(a.reshape(-1), turn).reshape(a.shape) for a in ops.arrays)
            assert x is not None
            moved = Operands(x, w, b)
            for changed in (True, False):
                self.place(moved)
                taken[changed] += self.sample(1, 0.0)["wall"]
                if changed and not self.spec.is_pool:  # the largest or the mean of the same numbers is the same
                    out = self.output().tobytes()
                    if out == last and len(out) >= TELLING and ops.x.size > 1:
                        return "its output stayed the same when its operands changed"
                    last = out
            spent = sum(map(sum, taken.values()))
            if turn > 1 and spent > seconds:
                break
        self.place(ops)
        fresh, again = median(taken[True]), median(taken[False])
        if fresh > REUSE * again and min(taken[True]) > max(again, 1e-6):
            return f"a call on new numbers takes {fresh / again:.1f} times as long as one on the same numbers: work is kept"
        return ""

    def given(self) -> Given:
        """A `Run` that gives the output that is there."""
        return Given(self.last)

    def peak(self) -> int | None:
        """The most resident memory since `prepare`; `RunEnded` where the process left the cores that it was given."""
        told = self._ask("peak", self.limits.seconds)
        if self.process.cores and tuple(told["cores"]) != tuple(self.process.cores):
            text = f"it runs on the cores {told['cores']}, it was given {list(self.process.cores)}"
            raise RunEnded(Verdict(Status.FAIL, text, compared=1, mismatches=1))
        return None if told["bytes"] is None else int(told["bytes"])

    def release(self) -> None:
        """Leave what was prepared."""
        self._ask("release", self.limits.seconds)

    def _ask(self, op: str, patience: float, /, **arguments: Any) -> dict[str, Any]:
        try:
            return self.process.ask(op, patience, **arguments)
        except WorkerGone as e:
            raise RunEnded(Verdict(e.status, f"while it was timed: {e.message}")) from None
        except Troubled as e:
            raise RunEnded(Verdict(trouble_status(e.trouble), f"while it was timed: {e.trouble.message}")) from None


def judge_timed(problem: Problem, run: Run) -> Verdict:
    """The verdict on one call: real numbers by the bound, integers by equality.

    These are the numbers that are timed: multiplying zeros or small integers may take another time.
    """
    if ZERO_MEAN.applies(problem.case, problem.spec, problem.info) is None:
        return ZERO_MEAN.judge(problem, run)
    ops, ref = problem.data(*problem.exact)
    return judge_exact(problem, problem.output(run, *problem.exact), ops, ref, shrunk=True)


def measure(calls: Calls, problem: Problem, effort: Effort, process: int) -> Measured:
    """Verify, time, verify.

    Parameters
    ----------
    calls : Calls
    problem : Problem
        Its outputs are not used: what is judged is what the timed process wrote.
    effort : Effort
    process : int
        Its number, for the series.
    """
    made = Measured()
    try:
        made.series.append(Series("setup", "cold", process, (calls.prepare(),)))
        if made.series[0].seconds[0] < effort.seconds:
            calls.release()
            made.series.append(Series("setup", "warm", process, (calls.prepare(),)))
        before = judged(problem, calls)
        if before.status is not Status.PASS:
            made.verdict = replace(before, message=f"before the timing: {before.message or before.status}")
            return made
        calls.sample(MOST, WARM_UP)
        if effort.cold:
            made.series += _series(calls.sample(COLD, effort.seconds / 2, scrub=effort.scrub), "cold", process)
        kept = calls.reuse(effort.seconds)
        warm, made.stopped = _until_enough(calls, effort)
        made.series += _series(warm, "warm", process)
        made.waits = warm["waits"] / len(warm["wall"])
        made.peak_bytes = calls.peak()
        calls.output()
        after = judged(problem, calls.given())
        made.verdict = after
        if after.status is not Status.PASS:
            made.verdict = replace(after, message=f"the output timed last: {after.message or after.status}")
        elif kept:
            made.verdict = Verdict(Status.FAIL, kept, compared=after.compared, mismatches=after.compared)
        calls.release()
    except RunEnded as e:
        made.verdict = e.verdict
    return made


def judged(problem: Problem, run: Calls | Given, judge: Callable[[Problem, Run], Verdict] = judge_timed) -> Verdict:
    """The verdict on what `run` gives, bounds used again, outputs not."""
    try:
        with np.errstate(all="ignore"):
            return judge(replace(problem, _outputs={}), run)
    except RunEnded as e:
        return e.verdict
    except NoBound as e:
        return Verdict(Status.ERROR, f"it cannot be judged by the class that it declares: {e}")
    except Exception as e:  # noqa: BLE001 - a defect of the judgement costs this figure, not the run
        text = f"the check failed, not the backend: {describe(e)}; this is a defect of Convproof, please report it"
        return Verdict(Status.ERROR, text, details={"traceback": format_exc(limit=-12)})


def _until_enough(calls: Calls, effort: Effort) -> tuple[dict[str, Any], str]:
    """Samples until the median is known well enough, the noise tells that it will not be, or the time is over."""
    held: dict[str, Any] = {"wall": [], "cpu": [], "device": [], "phases": {}, "waits": 0}
    noises: list[float] = []
    chunk, spent = CHUNK, 0.0
    while True:
        calls.poison()
        told = calls.sample(MOST, chunk)
        for name in ("wall", "cpu", "device"):
            held[name] += told[name]
        for name, values in told["phases"].items():
            held["phases"].setdefault(name, []).extend(values)
        held["waits"] += told["waits"]
        walls = held["wall"]
        spent += sum(told["wall"])
        width = figure([walls]).half_width if len(walls) >= FEWEST else inf
        if width <= effort.precision and spent >= min(LEAST, effort.seconds):
            return held, f"interval within {100 * effort.precision:g} %"
        quartiles = np.quantile(walls, [0.25, 0.5, 0.75])
        noises.append(float((quartiles[2] - quartiles[0]) / quartiles[1]))
        recent = noises[-STEADY:]
        steady = len(recent) == STEADY and max(recent) - min(recent) <= DRIFT * recent[-1]
        if steady and len(walls) >= STABLE and spent >= effort.seconds / 2:
            return held, f"noise stable at {100 * recent[-1]:.1f} %"
        if spent >= effort.seconds and len(walls) >= FEWEST:
            return held, f"budget of {effort.seconds:g} s"


def _series(told: dict[str, Any], state: str, process: int) -> list[Series]:
    named = {name: told[name] for name in ("wall", "cpu", "device")}
    named |= {PHASE + name: values for name, values in told["phases"].items()}
    return [Series(name, state, process, tuple(values)) for name, values in named.items() if values]
