"""What a diagnosis is made from: a wrong output, the right one, and which elements differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import comb, log2
from typing import Protocol

import numpy as np

from harness.data import Operands
from harness.diagnose.model import Model
from harness.oracle import Reference, reference
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

#: Outputs evaluated before a hypothesis is given up, and before one is believed.
FIRST, SOME = 6, 40
#: Products that a whole comparison may cost; beyond, a sample of the outputs is compared.
WORK = 3_000_000
#: Bits that the wrong outputs must tell about a hypothesis: some thousand are tried.
ENOUGH = 16.0
#: Bits for the few hypotheses on values that are not finite.
FEW = 6.0


@dataclass(frozen=True)
class Finding:
    """A hypothesis that reproduced the wrong output.

    Attributes
    ----------
    id : str
        Of the hypothesis.
    text : str
        What was found, a clause without a full stop.
    exact : bool
        Whether the whole output was reproduced, the right elements too.
    matched, of : int
        Wrong elements reproduced, of those compared.
    place : str
        Id of the hypothesis on the place where the output is wrong; empty where it is wrong everywhere.
    """

    id: str
    text: str
    exact: bool = True
    matched: int = 0
    of: int = 0
    place: str = ""


class Prediction(Protocol):
    """Outputs that a hypothesis predicts."""

    def at(self, points: np.ndarray) -> np.ndarray:
        """Values at `points`, (count, 2 + rank) indices; NaN where it says nothing."""
        ...


@dataclass(frozen=True, eq=False)
class Values:
    """A whole output as a prediction."""

    y: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Values there."""
        found: np.ndarray = self.y[tuple(points.T)]
        return found


@dataclass(frozen=True)
class Match:
    """How a prediction did."""

    exact: bool
    matched: int
    of: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """A failed trial.

    Attributes
    ----------
    spec : ConvSpec
    ops : Operands
    out : ndarray, `spec.out_shape`
    tol : ndarray or None
        Tolerance by which it was judged; None where equality was asked.
    check : str
        The check that failed.
    message : str
        What it said.
    passed : frozenset of str
        Checks that the backend passed on the same case.
    earlier : tuple of Operands
        Of earlier calls, the latest first.
    how : mapping
        `poison`, `guard` and `layout` of the call.
    again : callable, optional
        (ops, **how) -> output: another call of the backend; raises if it gives none.
    """

    spec: ConvSpec
    ops: Operands
    out: np.ndarray
    tol: np.ndarray | None = None
    check: str = ""
    message: str = ""
    passed: frozenset[str] = frozenset()
    earlier: tuple[Operands, ...] = ()
    how: Mapping[str, object] = field(default_factory=dict)
    again: Callable[..., np.ndarray] | None = None

    @cached_property
    def model(self) -> Model:
        """The right computation in pieces."""
        return Model.of(self.spec, self.ops)

    @cached_property
    def finite(self) -> bool:
        """Whether every operand is finite."""
        return all(bool(np.all(np.isfinite(a.astype(np.float64)))) for a in self.ops.arrays if a is not None)

    @cached_property
    def reference(self) -> Reference:
        """The oracle's result; operands that are not finite are evaluated by the model."""
        if self.finite:
            return reference(self.spec, self.ops)
        y = self.model.at(self.points).reshape(self.spec.out_shape)
        return Reference(y, None, np.abs(np.nan_to_num(y, posinf=0.0, neginf=0.0)))

    @cached_property
    def right(self) -> np.ndarray:
        """The right output before its last rounding, float64."""
        return self.reference.hi

    @cached_property
    def got(self) -> np.ndarray:
        """The output, float64."""
        return self.out.astype(np.float64)

    @cached_property
    def slack(self) -> float:
        """How far from a prediction an output may be, at most, where equality was not asked."""
        if self.tol is None:
            return 0.0
        return float(np.max(self.tol, initial=0.0, where=np.isfinite(self.tol)))

    @cached_property
    def wrong(self) -> np.ndarray:
        """Which outputs are wrong, bool of `out_shape`."""
        return ~self.agrees(self.right, self.got, 0.0 if self.tol is None else self.tol)

    @cached_property
    def points(self) -> np.ndarray:
        """Indices of every output, (count, 2 + rank)."""
        return np.stack(np.unravel_index(np.arange(self.out.size), self.out.shape), -1)

    @cached_property
    def suspects(self) -> np.ndarray:
        """Indices of the wrong outputs, in an order that is not that of memory: its first rows are a sample."""
        found = self.points[self.wrong.reshape(-1)]
        return found[_shuffle(len(found))]

    @cached_property
    def innocents(self) -> np.ndarray:
        """Indices of the right outputs, in such an order."""
        found = self.points[~self.wrong.reshape(-1)]
        return found[_shuffle(len(found))]

    @cached_property
    def telling(self) -> bool:
        """Whether the wrong outputs hold enough bits to tell hypotheses apart."""
        got = self.got[self.wrong]
        odd = np.unique(got[np.isfinite(got)])
        if self.finite and not len(odd) and len(got) == self.out.size:
            return False  # everything overflowed: so does whatever is large
        if not self.finite and not len(odd):  # the places of NaN and infinities tell
            return log2(comb(self.out.size, len(got))) >= FEW
        spread = float(np.max(np.abs(self.right), initial=1e-300, where=np.isfinite(self.right)))
        unit = max(2.0 * self.slack, 1.0 if self._integral else spread * 2.0 ** -min(20, self.spec.out_type.precision))
        each = log2(1.0 + 2.0 * spread / unit)
        # an output that lost its value says less: that others had another is a bit each
        return len(odd) * each + min(int(np.count_nonzero(self.wrong)), 64) >= ENOUGH

    @cached_property
    def _integral(self) -> bool:
        right = self.right[np.isfinite(self.right)]
        return bool(np.all(right == np.rint(right)))

    def agrees(self, prediction: np.ndarray, got: np.ndarray, slack: np.ndarray | float) -> np.ndarray:
        """Where an output equals a prediction rounded to its type, or lies within the slack of it; NaN equals NaN."""
        with np.errstate(all="ignore"):
            rounded = prediction.astype(numpy_dtype(self.spec.out_dtype)) if self._fits else prediction
            same = (rounded.astype(np.float64) == got) | (np.isnan(prediction) & np.isnan(got))
            near: np.ndarray = same | (np.abs(prediction - got) <= slack)
        return near

    @property
    def _fits(self) -> bool:
        return self.spec.out_type.is_float

    def match(self, prediction: Prediction) -> Match | None:
        """How `prediction` reproduces the output; None unless (nearly) every wrong element is as predicted.

        Rounding errors of real data spoil a few; of exact data none.
        """
        for count in (FIRST, SOME):
            if not self._reproduced(prediction, self.suspects[:count])[0]:
                return None
        most = max(SOME, WORK // self.model.taps) if isinstance(prediction, Model) else self.out.size
        suspects, innocents = self.suspects[:most], self.innocents[:most]
        ok, matched = self._reproduced(prediction, suspects)
        if not ok:
            return None
        exact = not len(innocents) or self._unspoilt(prediction, innocents)
        return Match(exact, matched, len(suspects))

    def _reproduced(self, prediction: Prediction, points: np.ndarray) -> tuple[bool, int]:
        """Whether the prediction explains wrong outputs, and how many of them it does."""
        place = tuple(points.T)
        predicted, got, right = prediction.at(points), self.got[place], self.right[place]
        hit = self.agrees(predicted, got, self._near(prediction, points))
        with np.errstate(all="ignore"):
            delivered = predicted.astype(numpy_dtype(self.spec.out_dtype)).astype(np.float64) if self._fits else predicted
            better = ~(np.abs(delivered - got) > 0.5 * np.abs(right - got)) | np.isnan(predicted)
        hits = int(np.count_nonzero(hit & better))
        return hits >= len(points) * (1.0 if self.tol is None else 0.9), hits

    def _unspoilt(self, prediction: Prediction, points: np.ndarray) -> bool:
        """Whether right outputs are predicted to be what they are."""
        hit = self.agrees(prediction.at(points), self.got[tuple(points.T)], self._near(prediction, points))
        return int(np.count_nonzero(hit)) >= len(points) * (1.0 if self.tol is None else 0.98)

    def _near(self, prediction: Prediction, points: np.ndarray) -> np.ndarray | float:
        if self.tol is None:
            return 0.0
        tol = np.broadcast_to(self.tol, self.out.shape)[tuple(points.T)]
        if not isinstance(prediction, Model):
            return np.maximum(2.0 * tol, self.slack)
        own = 8.0 * self.spec.acc_type.unit_roundoff * prediction.sizes(points)
        if self.spec.out_dtype != self.spec.acc_dtype:
            own = own + 2.0 * self.spec.out_type.unit_roundoff * np.abs(self.got[tuple(points.T)])
        return np.maximum(2.0 * tol, own)


def _shuffle(n: int) -> np.ndarray:
    """An order of n in which any first few are spread: multiples of the golden section."""
    return np.argsort(np.arange(n) * 0.6180339887498949 % 1.0, kind="stable")
