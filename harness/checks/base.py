"""What a check is, and what it is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import ParamSpec, Protocol, TypeVar, cast

import numpy as np

from harness.backend import BackendInfo, Device
from harness.catalogue import Case
from harness.data import Operands, draw
from harness.oracle import Reference, tolerance
from harness.oracle.cache import OracleCache
from harness.oracle.toom import exact_factor
from harness.records import Verdict
from harness.spec import ConvSpec

#: What may lie around the arrays: bytes of ones (NaN in every float, -1 in every integer), zeros, the largest
#: finite number of either sign, another byte pattern.
GUARDS = ("zeros", "ones", "largest", "lowest", "bytes 0x5a")
#: Specifications whose relatives are kept, a function.
KEPT = 512

P = ParamSpec("P")
T = TypeVar("T")


def kept(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a function makes of the specifications at hand: plan and judges, backend by backend, ask it again."""
    return cast("Callable[P, T]", lru_cache(KEPT)(function))


class RunEnded(Exception):
    """The backend gave no output to judge; carries the verdict (CRASH, TIMEOUT, FAIL of the contract, ...)."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.status}: {verdict.message}")
        self.verdict = verdict


@dataclass(frozen=True, eq=False)
class Trial:
    """One call: what was asked, on which operands, what came back (None if nothing did), and how it was called."""

    spec: ConvSpec
    ops: Operands
    out: np.ndarray | None = None
    how: Mapping[str, object] = field(default_factory=dict)


class Run(Protocol):
    """Calls the backend under judgement; `last` is the trial that was looked at last."""

    last: Trial | None

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
        """The output on `ops`, a copy of the harness's own.

        `poison` chooses one of two patterns that the output holds beforehand, `guard` one of `GUARDS` for the
        bands around the arrays, `layout` one of the declared memory layouts for the operands. `spec` is another
        specification than the case's, one of the check's `related`; `fresh` prepares anew. Raises `RunEnded` if
        nothing came back, or if guard bands, inputs or unwritten elements show a broken contract.
        """
        ...

    def together(self, sets: Sequence[Operands]) -> list[np.ndarray]:
        """The outputs of the case's prepared object, run in as many threads at once; raises as a call does."""
        ...

    def elsewhere(self, ops: Operands) -> np.ndarray:
        """The output in another worker, whose libraries have another thread count; raises as a call does."""
        ...


@dataclass(eq=False)
class Problem:
    """One case on one backend's device, with all that judging it needs.

    Attributes
    ----------
    case : Case
    spec : ConvSpec
    info : BackendInfo
        What the backend declares of itself.
    device : Device
    oracle : OracleCache
        Data and references, shared between backends.
    """

    case: Case
    spec: ConvSpec
    info: BackendInfo
    device: Device
    oracle: OracleCache
    _outputs: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)
    _bounds: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def data(self, recipe: object, *more: object) -> tuple[Operands, Reference]:
        """Operands of a recipe and their reference."""
        return self.oracle.get(str(recipe), self.spec, self.case.id, *more)

    def integers(self) -> Operands:
        """Integers on which the class is exact, without their reference; see `exact`."""
        return draw(str(self.exact[0]), self.spec, self.case.id, self.oracle.seed, *self.exact[1:])

    def tolerance(self, data: str, ops: Operands, ref: Reference) -> np.ndarray:
        """The bound that holds for the declared class; see `harness.oracle.tolerance`."""
        return tolerance(self.spec, self.info.algorithm_for(self.spec), self.device, data, ops, ref)

    def bound(self, data: str, recipe: object, *more: object) -> np.ndarray:
        """`tolerance` on a recipe's data; computed once."""
        key = (data, recipe, *more)
        if key not in self._bounds:
            self._bounds[key] = self.tolerance(data, *self.data(recipe, *more))
        return self._bounds[key]

    @cached_property
    def exact(self) -> tuple[object, ...]:
        """The recipe of integers on which the class is exact: smaller ones for a dyadic Winograd."""
        algorithm = self.info.algorithm_for(self.spec)
        factor = exact_factor(algorithm, self.spec.rank) if algorithm.kind == "winograd" else None
        return ("integers",) if factor is None else ("integers", factor)

    @property
    def is_exact(self) -> bool:
        """Whether `exact` data must come out equal: sums of exact products in any order, or dyadic transforms."""
        return self.is_direct or len(self.exact) > 1

    @property
    def is_direct(self) -> bool:
        """Whether the class only multiplies by the weights and adds, so that zero terms stay exact zeros."""
        return self.info.algorithm_for(self.spec).kind == "direct"

    @property
    def cuts_output(self) -> bool:
        """Whether the device truncates where the output's type is narrower than the accumulator's."""
        return self.device.rounding == "truncate" and self.spec.out_dtype != self.spec.acc_dtype

    def output(self, run: Run, recipe: object, *more: object) -> np.ndarray:
        """The backend's output on a recipe's data; run once, then kept for the checks that follow."""
        key = (recipe, *more)
        ops = self.data(recipe, *more)[0]
        if key not in self._outputs:
            self._outputs[key] = run(ops, spec=self.spec)
        run.last = Trial(self.spec, ops, self._outputs[key])
        return self._outputs[key]

    def on(self, spec: ConvSpec) -> Problem:
        """The same case's problem posed for another specification, with outputs of its own."""
        return self if spec == self.spec else replace(self, spec=spec, _outputs={}, _bounds={})


def alone(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """No other specification."""
    return ()


@dataclass(frozen=True)
class Check:
    """A named check.

    Attributes
    ----------
    name, title : str
    judge : callable
        (problem, run) -> Verdict. Its docstring is the theorem.
    applies : callable
        (case, spec, info) -> None, or the reason why the theorem does not hold there for such a backend.
    data : bool
        Whether its data decide if a case is WEAK.
    related : callable
        spec -> the other specifications on which it runs the backend; where one of them is not taken, the check does
        not apply.
    workers : bool
        Whether it needs a second worker process, so that it does not apply to backends run in the caller's process.
    """

    name: str
    title: str
    judge: Callable[[Problem, Run], Verdict]
    applies: Callable[[Case, ConvSpec, BackendInfo], str | None]
    data: bool = False
    related: Callable[[ConvSpec], tuple[ConvSpec, ...]] = alone
    workers: bool = False

    @property
    def theorem(self) -> str:
        """What is true of every right backend, and where."""
        return self._parts[0]

    @property
    def example(self) -> str:
        """A worked example in small numbers, as a doctest."""
        return self._parts[1]

    @property
    def _parts(self) -> tuple[str, str]:
        theorem, _, example = (inspect.getdoc(self.judge) or "").partition("\nExamples\n--------\n")
        return theorem.strip(), example.strip()


def always(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    """Applies everywhere."""
    return None


def has_output(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    """Applies where there is an element to compare."""
    return "the output is empty" if 0 in spec.out_shape else None
