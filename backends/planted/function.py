"""Faults of plugins made with `from_function`: what comes back has the wrong shape, type or owner, or does not come."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from backends.planted.fault import FOUND, Fault
from backends.planted.right import Right
from harness.backend import Backend, from_function
from harness.spec import ConvSpec

Given = np.ndarray | None
Function = Callable[[ConvSpec, np.ndarray, Given, Given], np.ndarray]


def planted(cls: str, kind: str, *, real: str = "") -> Callable[[Callable[[], Function]], Callable[[], Function]]:
    """Register a maker of a plugin's function as a fault called after it."""

    def register(maker: Callable[[], Function]) -> Callable[[], Function]:
        name = maker.__name__.replace("_", "-")
        what = re.sub(r"\s+", " ", maker.__doc__ or "").strip()

        def make() -> Backend:
            return from_function(name, maker(), summary=what)

        FOUND.append(Fault(name, cls, what, kind, make, maker.__name__, real, worker=kind == "crash"))
        return maker

    return register


@planted("OUTSIZE", "contract", real="tensorflow/tensorflow#57128")
def size_rounded_up() -> Function:
    """Where the stride leaves elements over, one output more is returned."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        over = [(a.n + a.lo + a.hi - a.extent) % a.s for a in spec.axes]
        return np.pad(y, [(0, 0), (0, 0), *((0, int(r > 0)) for r in over)]) if spec.op == "conv" else y

    return run


@planted("OUTSIZE", "contract", real="scipy/scipy#11973")
def full_size_returned() -> Function:
    """A dense convolution without padding is returned in full size, K - 1 longer along every axis."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        plain = spec.op == "conv" and not any(map(any, spec.padding)) and {*spec.stride, *spec.dilation} == {1}
        return np.pad(y, [(0, 0), (0, 0), *((0, m - 1) for m in spec.kernel_size)]) if plain else y

    return run


@planted("OUTSIZE", "contract")
def output_padding_not_in_the_size() -> Function:
    """The size of a transposed convolution leaves its output padding out."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        kept: Any = (..., *(slice(0, o - p) for o, p in zip(spec.out_size, spec.output_padding, strict=True)))
        return y[kept].copy()

    return run


@planted("DTYPE", "contract")
def accumulator_returned() -> Function:
    """The sum is returned in the accumulator's type, not in the output's."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        return y.astype(np.float32) if spec.out_dtype in ("f16", "bf16") else y

    return run


@planted("EMPTY", "contract", real="pytorch/pytorch#56998")
def previous_output_for_an_empty_batch() -> Function:
    """An empty batch returns one sample, the output of the call before."""
    left: list[np.ndarray] = []

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        if not spec.batch:
            return left[-1] if left else np.zeros((1, *y.shape[1:]), y.dtype)
        left[:] = [y]
        return y.copy()

    return run


@planted("EMPTY", "crash", real="microsoft/onnxruntime#10041")
def divides_by_the_batch() -> Function:
    """The work for one thread is worked out by a division by the batch, which may be empty."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        return np.concatenate([y[i : i + 1] for i in range(0, spec.batch, 64 // spec.batch or 1)])

    return run


@planted("ALIAS", "contract")
def identity_returns_its_input() -> Function:
    """A kernel that changes nothing returns the input itself."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        y = Right()(spec, x, w, b)
        unchanged = spec.op == "conv" and y.dtype == x.dtype and x.any() and np.array_equal(y, x)
        return x if unchanged else y

    return run


@planted("UNINIT", "crash", real="opencv/opencv#13179")
def raises_where_a_window_is_empty() -> Function:
    """An average over a window that lies wholly in the padding divides by zero and raises."""

    def run(spec: ConvSpec, x: np.ndarray, w: Given, b: Given) -> np.ndarray:
        if spec.op == "conv" and any(0 in counts for counts in spec.tap_counts):
            raise ZeroDivisionError("a window holds no element")
        return Right()(spec, x, w, b)

    return run
