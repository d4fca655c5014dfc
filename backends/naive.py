"""`naive`: the literal loops of the definition, compiled by numba. The reading copy among the backends.

The formulas are in `backends.naive_loops`, which is imported only when a device is probed or a
problem prepared; this module turns a specification into the arguments of those loops.
"""

from __future__ import annotations

import os
from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported, host_device
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype
from harness.spec.geometry import Axis
from harness.spec.host import narrow, numpy_dtype, widen

#: What is implemented, by name: a name that the specification gains later is not taken unseen.
OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
TYPES = ("f32", "f64", "f16", "f16/f16/f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32", "i8")
MODES = ("zeros", "circular", "reflect", "replicate")
#: The type in which the loops compute, by accumulator: numba has neither f16 nor bf16.
WORK = {"f16": "f32", "f32": "f32", "f64": "f64", "i8": "i32", "i32": "i32", "bf16": "f32"}
HINT = "pip install 'convproof[naive]'"


class Naive:
    """The backend object; see the contract in `harness.backend`.

    Examples
    --------
    >>> backend.info.limits.why_not(ConvSpec("conv", (5,), (3,), in_dtype="bf16")) is None
    True
    """

    info = BackendInfo(
        "naive",
        "the literal loops, compiled by numba",
        Limits(OPS, TYPES, padding_modes=MODES),
        extra="naive",
        version="1",
        nan_max_pool="propagate",
        layouts=LAYOUTS,
        thread_safe=True,
    )

    def probe(self) -> Probe:
        """The host's processor, or that numba is missing."""
        try:
            _loops()
        except Exception as error:  # noqa: BLE001 - numba is foreign code, and a probe never raises
            return Probe(reason=f"backend 'naive' needs numba: {error}", hint=HINT)
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The widened operands, the reversed weights, the unrounded output and the position tables."""
        work = dtype(WORK[spec.acc_dtype]).itemsize
        weights = prod(spec.w_shape or (0,))
        total = 2 * weights * work + 2 * spec.out_channels * work
        if spec.in_dtype != WORK[spec.acc_dtype]:
            total += prod(spec.x_shape) * work
        if spec.out_dtype != WORK[spec.acc_dtype]:
            total += prod(spec.out_shape) * (work + spec.out_type.itemsize)
        # numpy's temporaries while a table is made: at most four arrays of eight bytes a position
        positions = sum(_padded_size(a, out) for a, out in zip(spec.axes, spec.out_size, strict=True))
        return total + 32 * (positions + sum(spec.out_size))

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Compile the loops (or read them from numba's cache) and make the position tables."""
        if device != "cpu":
            raise Unsupported(f"backend 'naive' has no device {device!r}: its device is 'cpu'")
        try:
            loops = _loops()
        except ImportError as error:
            raise Unsupported(f"backend 'naive' needs numba ({error}): {HINT}") from error
        return _Prepared(spec, loops)


backend = Naive()


class _Prepared:
    """One specification, lifted to three spatial axes, with the arguments that do not change."""

    def __init__(self, spec: ConvSpec, loops: Any) -> None:
        self.spec, lifted = spec, spec.lifted()
        self.phases: dict[str, float] = {}
        self._x_shape, self._w_shape, self._out_shape = lifted.x_shape, lifted.w_shape, lifted.out_shape
        self._work = numpy_dtype(WORK[spec.acc_dtype])
        half = spec.acc_dtype == "f16" and spec.op != "max_pool"
        self._kernel = loops.kernel(spec.op, self._work.name, half)
        self._no_bias = _read_only(np.zeros(spec.out_channels, self._work))
        self._geometry = _geometry(lifted, self._work, True if half else None)

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Widen, loop, round."""
        start = perf_counter()
        operands = [self._operand(x, self._x_shape)]
        if w is not None and self._w_shape is not None:
            taps = w.reshape(self._w_shape)
            operands.append(self._operand(taps[:, :, ::-1, ::-1, ::-1] if self.spec.flip else taps, self._w_shape))
            operands.append(self._no_bias if b is None else self._operand(b, b.shape))
        direct = out.dtype == self._work
        y = out.reshape(self._out_shape) if direct else np.empty(self._out_shape, self._work)
        packed = perf_counter()
        self._kernel(*operands, *self._geometry, y)
        looped = perf_counter()
        if not direct:
            with np.errstate(over="ignore"):  # a sum beyond the output's range is Inf by definition, not a fault
                out[...] = narrow(y, self.spec).reshape(out.shape)
        self.phases = {"pack": packed - start, "kernel": looped - packed, "copy": perf_counter() - looped}

    def _operand(self, a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """`a` as the loops take it: their type, C order and read-only (so that the compiled signature matches)."""
        return _read_only(np.ascontiguousarray(widen(a, self.spec), self._work).reshape(shape))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._geometry = ()


def _geometry(lifted: ConvSpec, work: np.dtype[Any], half: bool | None) -> tuple[Any, ...]:
    """The arguments between the operands and the output, in the order of the loops' parameters."""
    if lifted.op == "conv_transpose":
        low = tuple(a.lo for a in lifted.axes)
        return low, lifted.stride, lifted.dilation, lifted.groups, half
    axes = list(zip(lifted.axes, lifted.out_size, strict=True))
    sources = [_read_only(source_positions(a, out, lifted.padding_mode)) for a, out in axes]
    if lifted.op == "conv":
        return *sources, lifted.stride, lifted.dilation, lifted.groups, half
    window = (lifted.kernel_size, lifted.stride, lifted.dilation)
    if lifted.op == "max_pool":
        lowest = work.type(-np.inf) if work.kind == "f" else work.type(np.iinfo(work).min)
        return *sources, *window, lowest
    counts = [_read_only(divisors(a, out, include_pad=lifted.count_include_pad)) for a, out in axes]
    return *sources, *counts, *window, half


def source_positions(a: Axis, out: int, mode: str) -> np.ndarray:
    """For each position of the padded axis, the input element that stands there; -1 is none.

    Parameters
    ----------
    a : Axis
    out : int
        Outputs of the axis; the table ends where the last output's last tap reads.
    mode : str
        The padding mode.

    Returns
    -------
    ndarray of int64

    Examples
    --------
    >>> source_positions(Axis(4, 3, lo=2, hi=1), 5, "reflect").tolist()
    [2, 1, 0, 1, 2, 3, 2]
    """
    i = np.arange(_padded_size(a, out), dtype=np.int64) - a.lo
    last = a.n - 1
    if mode == "circular":
        return i % a.n
    if mode == "reflect":
        return last - np.abs(last - np.abs(i))
    if mode == "replicate":
        return np.clip(i, 0, last)
    return np.where((i >= 0) & (i <= last), i, -1)


def divisors(a: Axis, out: int, *, include_pad: bool) -> np.ndarray:
    """For each output of the axis, the taps that an average's divisor counts.

    With `include_pad` those at positions in [-lo, n+hi), the overhang of `ceil_mode` never;
    without it those on data, [0, n).

    Examples
    --------
    >>> divisors(Axis(4, 3, lo=1, hi=1), 4, include_pad=False).tolist()
    [2, 3, 3, 2]
    """
    low, high = (-a.lo, a.n + a.hi) if include_pad else (0, a.n)
    start = np.arange(out, dtype=np.int64) * a.s - a.lo
    count = np.zeros(out, np.int64)
    for k in range(a.m):
        position = start + k * a.d
        count += (position >= low) & (position < high)
    return count


def _padded_size(a: Axis, out: int) -> int:
    """Positions of the padded axis that any tap of `out` outputs reads."""
    return (out - 1) * a.s + a.extent


def _read_only(a: np.ndarray) -> np.ndarray:
    view = a.view()
    view.flags.writeable = False
    return view


def _loops() -> Any:
    """`backends.naive_loops`, with numba's cache in the user's cache directory unless one is set.

    The default, `__pycache__` beside the source, is often not writable where a package is installed.
    """
    if "NUMBA_CACHE_DIR" not in os.environ:
        from platformdirs import user_cache_path

        os.environ["NUMBA_CACHE_DIR"] = str(user_cache_path("convproof") / "numba")
    from backends import naive_loops

    return naive_loops
