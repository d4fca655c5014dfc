"""One case on one backend, prepared and verified: what a benchmark of the suite measures.

The harness and the backend are those of the commit that asv has installed. They are named inside functions, so that
asv can list the benchmarks at a commit that lacks a part of them.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .parameters import parted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from harness.backend import Backend, Device, Prepared
    from harness.catalogue import Case
    from harness.checks import Check, Problem, Trial
    from harness.data import Operands
    from harness.records import Verdict
    from harness.run.arena import Desk
    from harness.spec import ConvSpec

#: Checks that a figure stands beside: exact data, then rounding. They find a wrong tap, a stale weight, a shortcut in TF32.
CHECKS = ("integers", "zero_mean")


class NotVerified(Exception):
    """There is no figure, because there is no PASS; asv shows the benchmark as failed."""


@dataclass
class Caller:
    """Calls a prepared backend between guard bands, on arrays that lie as the contract says; what checks are given."""

    work: Prepared
    desk: Desk
    spec: ConvSpec
    last: Trial | None = None

    def place(self, ops: Operands, poison: int = 0) -> None:
        """Lay operands out, and poison into the output."""
        from harness.checks.contract import pattern

        self.desk.place(ops, pattern(self.spec.out_dtype, poison))

    def call(self) -> None:
        """Run on what lies there."""
        a = self.desk.arrays
        self.work.run(a["x"], a.get("w"), a.get("b"), a["out"])

    def output(self, ops: Operands, poison: int = 0) -> np.ndarray:
        """A copy of the output, once it is whole and nothing else was written."""
        from harness.checks.contract import unwritten

        out: np.ndarray = self.desk.arrays["out"].copy()
        if what := self.desk.damage(ops):
            raise NotVerified(what)
        if self.spec.out_type.is_float and bool(unwritten(out, self.spec.out_dtype, poison).any()):
            raise NotVerified("a part of the output was never written")
        return out

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
        if fresh or layout != "C" or spec not in (None, self.spec):
            raise NotVerified("a check asked for what a benchmark does not offer")
        self.desk.guard(guard)
        self.place(ops, poison)
        self.call()
        return self.output(ops, poison)

    def together(self, sets: Sequence[Operands]) -> list[np.ndarray]:
        """No threads here."""
        raise NotVerified("a check asked for threads")

    def elsewhere(self, ops: Operands) -> np.ndarray:
        """No other worker here."""
        raise NotVerified("a check asked for another process")


@dataclass
class Subject:
    """A verified case on a backend.

    Attributes
    ----------
    caller : Caller
    problem : Problem
    check : Check
        Whose data are timed.
    ops : Operands
    flops : int
    error : float
        Largest |y - y_ref| in units of the bound over the checks.
    """

    caller: Caller
    problem: Problem
    check: Check
    ops: Operands
    flops: int
    error: float
    _right: np.ndarray | None = field(default=None, repr=False)
    _called: bool = False

    def ready(self) -> None:
        """Poison the output, so that a call that writes nothing leaves no right numbers."""
        self.caller.place(self.ops)
        self._called = False

    def run(self) -> None:
        """The call that is measured."""
        self.caller.call()
        self._called = True

    def confirm(self) -> None:
        """Judge what the last call wrote: the bits of an output that has passed, or judged anew.

        Raises
        ------
        NotVerified
            If it is not PASS.
        """
        if not self._called:
            return
        out = self.caller.output(self.ops)
        if self._right is None or out.tobytes() != self._right.tobytes():
            verdict = _judged(self.check, _posed_again(self.problem), _Given(out))
            _pass(verdict, self.check.name, "the output that was timed last")
            self._right = out


@dataclass
class _Given:
    """An output that was computed before, as a check calls for it."""

    out: np.ndarray
    last: Any = None

    def __call__(self, ops: Operands, **how: object) -> np.ndarray:
        return self.out

    def together(self, sets: Sequence[Operands]) -> list[np.ndarray]:
        raise NotVerified("a check asked for threads")

    def elsewhere(self, ops: Operands) -> np.ndarray:
        raise NotVerified("a check asked for another process")


def prepared(label: str, backend: str, seed: int, threads: int) -> Subject:
    """Prepare and verify.

    Parameters
    ----------
    label : str
        `<case>@<version>`.
    backend : str
    seed, threads : int

    Raises
    ------
    NotImplementedError
        If the commit has no such case, or the case had another content, or has no such backend, or that does not
        take it: there is nothing to measure.
    NotVerified
        If it is not PASS, or the backend is not available.
    """
    from harness.run.threads import fix_threads

    fix_threads(threads)
    case = _case(label)
    found = _backend(backend)
    assert case.spec is not None
    if reason := found.info.limits.why_not(case.spec):
        raise NotImplementedError(f"{backend} does not take {case.id}: {reason}")
    try:
        return _verified(case, found, seed)
    except NotImplementedError as error:  # a backend's own: asv would show n/a, and it is a defect
        raise NotVerified(f"{backend} on {case.id} raised {error!r}") from error
    except _NotTaken as error:
        raise NotImplementedError(f"{backend} does not take {case.id}: {error}") from error


class _NotTaken(Exception):
    """`prepare` raised Unsupported."""


def _case(label: str) -> Case:
    """The case of that id, if its content is that of the version."""
    from harness.catalogue import load_catalogue, packaged_files

    name, version = parted(label)
    family = name.partition("-")[0]
    files = packaged_files()
    alike = [p for p in files if p.name.startswith(family)] or files  # most of the catalogue needn't be read
    for part in (alike, files):
        for case in load_catalogue(part).cases:
            if case.id == name:
                if case.version != version:
                    raise NotImplementedError(f"this commit's {name} is {case.version}, not {version}: another case")
                return case
    raise NotImplementedError(f"this commit has no case {name}")


def _backend(name: str) -> Backend:
    from harness.registry import Registry, UnknownBackend, load

    try:
        reference = Registry.installed().reference(name)
    except UnknownBackend as error:
        raise NotImplementedError(f"this commit has no backend {name}") from error
    try:
        return load(reference)
    except NotImplementedError as error:
        raise NotVerified(f"{name} raised {error!r} on import") from error


def _verified(case: Case, backend: Backend, seed: int) -> Subject:
    from harness.backend import Unsupported
    from harness.checks import CHECKS as KNOWN
    from harness.checks import Problem
    from harness.oracle.cache import OracleCache
    from harness.run.arena import Arena, Desk, layout

    spec = case.spec
    assert spec is not None
    device = _device(backend)
    try:
        work = backend.prepare(spec, device.name)
    except Unsupported as reason:
        raise _NotTaken(str(reason)) from reason
    stack = ExitStack()
    atexit.register(stack.close)
    stack.enter_context(work)
    problem = Problem(case, spec, backend.info, device, OracleCache(seed))
    caller = Caller(work, Desk(Arena(), layout(spec), spec.out_dtype), spec)
    by_name = {c.name: c for c in KNOWN}
    checks = [by_name[n] for n in CHECKS if by_name[n].applies(case, spec, backend.info) is None]
    if not checks:
        raise NotVerified(f"no check applies to {case.id}")
    errors = []
    for check in checks:
        verdict = _judged(check, problem, caller)
        _pass(verdict, check.name, f"{backend.info.name} on {case.id}")
        errors.append(verdict.error_bound or 0.0)
    last = checks[-1]
    ops = problem.data(*(problem.exact if last.name == "integers" else (last.name,)))[0]
    return Subject(caller, problem, last, ops, spec.flops, max(errors))


def _device(backend: Backend) -> Device:
    probe = backend.probe()
    if not probe.devices:
        raise NotVerified(f"{backend.info.name} has no device: {probe.reason} {probe.hint}".strip())
    return probe.devices[0]


def _judged(check: Check, problem: Problem, run: Any) -> Verdict:
    import numpy as np

    from harness.checks import RunEnded

    try:
        with np.errstate(all="ignore"):
            return check.judge(problem, run)
    except RunEnded as ended:
        return ended.verdict


def _posed_again(problem: Problem) -> Problem:
    """The same problem without the outputs that it has seen."""
    from harness.checks import Problem

    return Problem(problem.case, problem.spec, problem.info, problem.device, problem.oracle)


def _pass(verdict: Verdict, check: str, what: str) -> None:
    if verdict.status != "PASS" or not verdict.compared:
        raise NotVerified(f"{what} is {verdict.status} under {check}: {verdict.message}")
