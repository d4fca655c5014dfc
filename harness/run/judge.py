"""Judging a batch: every check of one case on one backend, by calls through a link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from traceback import format_exc

import numpy as np

from harness.backend import BackendInfo
from harness.checks import Problem, RunEnded, Trial, weaken
from harness.checks.contract import pattern, unwritten, unwritten_verdict
from harness.data import Operands
from harness.oracle.bound import NoBound
from harness.oracle.cache import OracleCache
from harness.records import Record, Status, Verdict
from harness.run.arena import Desk, layout, side_by_side
from harness.run.diagnosing import Diary, diagnosed
from harness.run.fences import Fence, blamed
from harness.run.fpmode import NORMAL
from harness.run.limits import Limits
from harness.run.link import Link, trouble_status
from harness.run.messages import Call, Done, Loaded, Prepare, Release, Reply, Together, Trouble
from harness.run.oclgrind import too_large
from harness.run.plan import Batch
from harness.run.process import WorkerGone
from harness.run.serve import describe
from harness.spec import ConvSpec

#: What a failure leaves for --save-arrays and the pages: the record and the trial that it was found on.
Keep = Callable[[Record, Trial], None]


@dataclass
class Session:
    """Calls of one backend on a case. `__call__` is the `Run` that checks are given."""

    link: Link
    limits: Limits
    batch: Batch
    seconds: float = 0.0
    last: Trial | None = None
    _desk: Desk | None = None
    _generation: int = -1
    _spec: ConvSpec | None = None
    _other: Session | None = None
    _left: Verdict | None = None
    diary: Diary = field(default_factory=Diary)

    def __call__(
        self,
        ops: Operands,
        *,
        poison: int = 0,
        guard: str = "ones",
        layout: str = "C",
        spec: ConvSpec | None = None,
        fresh: bool = False,
    ) -> np.ndarray:
        """Run once; see `harness.checks.base.Run`."""
        spec = spec or self.batch.case.spec
        assert spec is not None
        self.last = Trial(spec, ops)
        desk = self._prepared(spec, fresh)
        how = {"poison": poison, "guard": guard, "layout": layout}
        desk.guard(guard)
        if self.limits.guard == "pages":
            self._fenced(desk, spec, ops, poison, layout, "begin", how)
            return self._fenced(desk, spec, ops, poison, layout, "end", how)
        reply = self._call(desk, spec, ops, poison, Call(layout))
        return self._output(desk, spec, ops, poison, reply.fp_mode, how)

    def _call(self, desk: Desk, spec: ConvSpec, ops: Operands, poison: int, call: Call) -> Done:
        desk.place(ops, pattern(spec.out_dtype, poison))
        reply = self._ask(call, self.limits.seconds)
        assert isinstance(reply, Done)
        self.seconds += reply.seconds
        return reply

    def _fenced(
        self, desk: Desk, spec: ConvSpec, ops: Operands, poison: int, layout: str, side: str, how: Mapping[str, object]
    ) -> np.ndarray:
        """The output of a call whose arrays touch closed pages; a death there is told with the page."""

        def dies(fence: Fence) -> bool:
            try:
                self._call(self._prepared(spec, fresh=False), spec, ops, poison, Call(layout, fence))
            except RunEnded as e:
                return e.verdict.status is Status.CRASH
            return False

        fence = Fence(side)
        try:
            reply = self._call(desk, spec, ops, poison, Call(layout, fence))
        except RunEnded as e:
            raise RunEnded(blamed(e.verdict, desk.lay, fence, dies)) from None
        return self._output(desk, spec, ops, poison, reply.fp_mode, how)

    def together(self, sets: Sequence[Operands]) -> list[np.ndarray]:
        """Run the case's prepared object in as many threads at once; see `harness.checks.base.Run`."""
        spec = self.batch.case.spec
        assert spec is not None
        self.last = Trial(spec, sets[0])
        first = self._prepared(spec, fresh=False)
        desks = [first, *(Desk(self.link.arena, lay, spec.out_dtype) for lay in side_by_side(first.lay, len(sets))[1:])]
        for desk, ops in zip(desks, sets, strict=True):
            desk.guard("ones")
            desk.place(ops, pattern(spec.out_dtype, 0))
        reply = self._ask(Together(tuple(d.lay for d in desks)), self.limits.seconds * len(sets))
        assert isinstance(reply, Done)
        self.seconds += reply.seconds
        return [self._output(desk, spec, ops, 0, reply.fp_mode) for desk, ops in zip(desks, sets, strict=True)]

    def elsewhere(self, ops: Operands) -> np.ndarray:
        """Run in the link's sibling; see `harness.checks.base.Run`."""
        if self._other is None:
            self._other = Session(self.link.sibling(), self.limits, self.batch)
        before = self._other.seconds
        try:
            return self._other(ops)
        finally:
            self.seconds += self._other.seconds - before
            self.last = self._other.last

    def _output(
        self, desk: Desk, spec: ConvSpec, ops: Operands, poison: int, mode: str, how: Mapping[str, object] | None = None
    ) -> np.ndarray:
        """A copy of what was written, once nothing else was and nothing is missing."""
        out = desk.arrays["out"].copy()
        self.last = Trial(spec, ops, out, how or {})
        self.diary.calls.append(self.last)
        if (what := desk.damage(ops)) is not None:
            raise RunEnded(Verdict(Status.FAIL, what, compared=1, mismatches=1))
        self._same_mode(mode, "run()")
        if spec.out_type.is_float and bool(np.any(missing := unwritten(out, spec.out_dtype, poison))):
            raise RunEnded(unwritten_verdict(missing))
        return out

    def _prepared(self, spec: ConvSpec, fresh: bool) -> Desk:
        """A living worker with `spec` prepared, and a desk over its arena."""
        if reason := too_large(self.batch.device, spec.flops):  # a case is left out by the plan, a related problem here
            raise RunEnded(Verdict(Status.NOT_RUN, reason))
        if fresh or spec != self._spec:
            self._leave()
        try:
            loaded = self.link.load()
        except WorkerGone as e:
            raise RunEnded(Verdict(e.status, f"while it was loaded: {e.message}", details=_log(e))) from None
        if not isinstance(loaded, Loaded):
            raise RunEnded(Verdict(trouble_status(loaded), f"could not be loaded: {loaded.message}"))
        if self._desk is None or self._generation != self.link.generation:
            self._same_mode(loaded.fp_mode, "its import")
            self._spec, lay = spec, layout(spec)
            self._desk = Desk(self.link.arena, lay, spec.out_dtype)
            self._generation = self.link.generation
            reply = self._ask(Prepare(spec, self.batch.device.name, lay), self.limits.load_seconds, "prepare")
            assert isinstance(reply, Done)
            self._same_mode(reply.fp_mode, "prepare()")
        return self._desk

    def release(self) -> Verdict | None:
        """Leave what was prepared, while the case is there to be charged; the verdict if that goes wrong."""
        self._leave()
        other = None if self._other is None else self._other.release()
        return self._left or other

    def _leave(self) -> None:
        """Leave what is prepared; what goes wrong there is kept for `release`, being no fault of what comes next."""
        desk, self._desk = self._desk, None
        if desk is None or self._generation != self.link.generation or not self.link.alive:
            return
        try:
            reply = self._ask(Release(), self.limits.seconds, "__exit__")
            assert isinstance(reply, Done)
            self._same_mode(reply.fp_mode, "__exit__()")
        except RunEnded as e:
            self._left = self._left or e.verdict

    def _same_mode(self, mode: str, who: str) -> None:
        """FAIL where the floating-point mode was left changed, unless the device declares it."""
        device = self.batch.device
        if mode == NORMAL or device.denormals != "gradual" or device.rounding != "nearest":
            return
        self.link.discard()
        text = f"{who} left the floating-point mode changed: {mode}"
        raise RunEnded(Verdict(Status.FAIL, text, compared=1, mismatches=1))

    def _ask(self, request: Prepare | Call | Together | Release, seconds: float, stage: str = "run") -> Reply:
        try:
            reply = self.link.ask(request, seconds)
        except WorkerGone as e:
            raise RunEnded(Verdict(e.status, f"in {stage}(): {e.message}", details=_log(e))) from None
        if isinstance(reply, Trouble):
            if reply.kind in ("memory", "sanitizer"):
                self.link.discard()
            details = {"traceback": reply.traceback} if reply.traceback else {}
            text = reply.message if reply.kind == "unsupported" else f"in {stage}(): {reply.message}"
            raise RunEnded(Verdict(trouble_status(reply), text, details=details))
        return reply


def _log(gone: WorkerGone) -> dict[str, str]:
    return {"log": gone.log} if gone.log else {}


def judge_batch(
    batch: Batch,
    info: BackendInfo,
    link: Link,
    oracle: OracleCache,
    limits: Limits,
    keep: Keep | None = None,
    *,
    diagnose: bool = False,
) -> list[Record]:
    """Run and judge every job of a batch; a record each, whatever happens.

    Parameters
    ----------
    batch : Batch
    info : BackendInfo
    link : Link
    oracle : OracleCache
    limits : Limits
    keep : callable, optional
        Called for each job that ends badly with what it ran on.
    diagnose : bool
        Whether the first failures are diagnosed.
    """
    spec = batch.case.spec
    assert spec is not None
    problem = Problem(batch.case, spec, info, batch.device, oracle)
    session = Session(link, limits, batch)
    verdicts: dict[str, Verdict] = {}
    spent: dict[str, tuple[float, float]] = {}
    blocked = ""
    lasts: dict[str, Trial | None] = {}
    for check in batch.checks:
        start, before = perf_counter(), session.seconds
        if blocked:
            verdicts[check.name], spent[check.name] = Verdict(Status.NOT_RUN, blocked), (0.0, 0.0)
            continue
        try:
            with np.errstate(all="ignore"):  # outputs are foreign numbers: what is wrong with them is the verdict's to say
                verdict = check.judge(problem, session)
        except RunEnded as e:
            verdict = e.verdict
        except NoBound as e:
            verdict = Verdict(Status.ERROR, f"it cannot be judged by the class that it declares: {e}")
        except Exception as e:  # noqa: BLE001 - a defect of one check costs its verdicts, not the run
            text = f"the check failed, not the backend: {describe(e)}; this is a defect of Convproof, please report it"
            verdict = Verdict(Status.ERROR, text, details={"traceback": format_exc(limit=-12)})
        verdicts[check.name] = verdict
        spent[check.name] = perf_counter() - start, session.seconds - before
        lasts[check.name] = session.last
        session.diary.judged(check.name, verdict, session.last)
        if verdict.status is Status.UNSUPPORTED:
            rest = {c.name: verdict for c in batch.checks if c.name not in verdicts}
            verdicts |= rest
            spent |= dict.fromkeys(rest, (0.0, 0.0))
            break
        if check.name == "contract" and verdict.status is not Status.PASS:
            blocked = f"the contract check ended with {verdict.status}"
    if diagnose:
        verdicts = diagnosed(problem, session, session.diary, verdicts)
    left = session.release()
    if left is not None:
        at = "contract" if "contract" in verdicts else batch.checks[-1].name
        verdicts[at] = left if verdicts[at].status is Status.PASS else verdicts[at]
    verdicts = weaken(verdicts, frozenset(c.name for c in batch.checks if c.data))
    version = batch.case.version
    records = [Record(job, _finished(verdicts[job.check]), *spent[job.check], digest=version) for job in batch.jobs]
    if keep is not None:
        for record in records:
            last = lasts.get(record.job.check)
            if record.verdict.status in (Status.FAIL, Status.WEAK, Status.ERROR, Status.CRASH, Status.TIMEOUT) and last:
                keep(record, last)
    return records


def _finished(v: Verdict) -> Verdict:
    """Drop what only the batch needed."""
    return replace(v, details={k: d for k, d in v.details.items() if k != "decoys" or d})
