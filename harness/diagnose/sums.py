"""Sums that are rounded, clipped or wrapped on their way, evaluated at chosen outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.diagnose.model import Model

Rounding = Callable[[np.ndarray], np.ndarray]

#: Products an output beyond which sums are not simulated.
TERMS = 600
#: Orders of summation: input channels outermost, taps outermost, and taps with
#: their channels summed in one go.
ORDERS: Mapping[str, str] = {"channels": "", "taps": ", tap by tap", "tap sums": ", a tap's channels at once"}


@dataclass(frozen=True, eq=False)
class Sums:
    """A prediction by sums that are changed after every addition.

    Attributes
    ----------
    model : Model
        Of a sum or a mean.
    change : callable
        What becomes of every sum; of every product where `order` is `products`.
    order : str
        One of `ORDERS`, or `products`, whose sum is exact.
    """

    model: Model
    change: Rounding
    order: str

    def at(self, points: np.ndarray) -> np.ndarray:
        """Outputs at `points`, (count, 2 + rank) indices."""
        parts = np.array_split(points, max(1, len(points) * self.model.taps // (1 << 20)))
        with np.errstate(all="ignore"):
            return np.concatenate([self._some(p) for p in parts])

    def _some(self, points: np.ndarray) -> np.ndarray:
        terms = self.model.terms(points)
        flat = terms.reshape(len(points), terms.shape[1], -1)
        whole = self.order == "products"
        total = self.change(flat).sum((1, 2)) if whole else self._stepwise(self._ordered(flat))
        if self.model.divisor is not None:
            total = total / self.model.divisor[tuple(points[:, 2:].T)]
        found: np.ndarray = total if self.model.bias is None else total + self.model.bias[points[:, 1]]
        return found

    def _ordered(self, flat: np.ndarray) -> np.ndarray:
        if self.order == "tap sums":
            return flat.sum(1)
        return (np.swapaxes(flat, 1, 2) if self.order == "taps" else flat).reshape(len(flat), -1)

    def _stepwise(self, terms: np.ndarray) -> np.ndarray:
        total = np.zeros(len(terms))
        for k in range(terms.shape[1]):
            total = self.change(total + terms[:, k])
        return total
