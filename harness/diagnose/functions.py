"""Hypotheses about functions applied to the operands or to the result: factors, activations, wrong reductions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from harness.diagnose.evidence import Evidence, Values
from harness.diagnose.hypothesis import Variant, hypothesis
from harness.diagnose.model import Model

Map = Callable[[np.ndarray], np.ndarray]


@hypothesis("scaled")
def scaled(e: Evidence) -> Iterator[Variant]:
    """The result has a constant factor."""
    points = e.suspects
    if len(points) < 3 or e.spec.op == "max_pool":
        return
    bias = 0.0 if e.model.bias is None else e.model.bias.reshape(1, -1, *(1,) * e.spec.rank)
    for words, right, added in (("", e.right, 0.0), (", before the bias is added", e.right - bias, bias)):
        if added is bias and e.model.bias is None:
            continue
        at = tuple(points[:64].T)
        got, want = (e.got - added)[at], right[at]
        with np.errstate(all="ignore"):
            largest = int(np.argmax(np.where(np.isfinite(got), np.abs(want), 0)))
            factor = float(got[largest] / want[largest])
        if np.isfinite(factor) and factor not in (0.0, 1.0):
            yield f"the result times {_ratio(factor)}{words}", Values(right * factor + added)


def _ratio(factor: float) -> str:
    for bottom in range(1, 4097):
        top = factor * bottom
        if abs(top - round(top)) < 1e-7 * abs(top) and abs(top) < 4097:
            return f"{round(top)}/{bottom}" if bottom > 1 else str(round(top))
    return f"{factor:.6g}"


@hypothesis("activation")
def activation(e: Evidence) -> Iterator[Variant]:
    """A function is applied to the result."""
    y = e.right
    yield "max(y, 0) in place of y", Values(np.maximum(y, 0.0))
    yield "|y| in place of y", Values(np.abs(y))
    yield "min(max(y, 0), 6) in place of y", Values(np.clip(y, 0.0, 6.0))
    yield "y rounded to an integer", Values(np.rint(y))
    yield "y clipped to [-1, 1]", Values(np.clip(y, -1.0, 1.0))
    if e.model.bias is not None:
        bias = e.model.bias.reshape(1, -1, *(1,) * e.spec.rank)
        yield "max(y, 0) applied before the bias is added", Values(np.maximum(y - bias, 0.0) + bias)


@hypothesis("operands_swapped")
def operands_swapped(e: Evidence) -> Iterator[Variant]:
    """An operand is exchanged for another function of it."""
    ways: dict[str, Map] = {
        "|{}|": np.abs,
        "max({}, 0)": lambda a: np.maximum(a, 0),
        "-{}": np.negative,
        "{}^2": np.square,
    }
    for words, change in ways.items():
        yield f"{words.format('x')} in place of x", e.model.on(change(e.model.x))
        if e.model.w is not None:
            yield f"{words.format('w')} in place of w", replace(e.model, w=change(e.model.w))
    w = e.ops.w
    if w is not None and w.size == e.ops.x.size:
        swapped = Model.of(e.spec, replace(e.ops, x=w.reshape(e.ops.x.shape), w=e.ops.x.reshape(w.shape)))
        yield "input and weights exchanged", swapped
