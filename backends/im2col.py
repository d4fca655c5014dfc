"""`im2col`: the data become a matrix of patches, and the convolution is the weights times that matrix.

The lecture's second view, "typically implemented on GPUs". Column o of the patch matrix holds what output o
reads, row (c, k) what tap k of channel c meets, over all outputs. On one axis with stride 1 that matrix is
Toeplitz: going one output to the right and one tap to the left reads the same element. The product is one
GEMM a group, so the arithmetic runs at the speed of BLAS; the price is memory, each element of x copied once
for every tap that reads it. Here at most `CHUNK` bytes of patches exist at a time.

The patches are first a view (`windows`): the padded image with the strides of output and tap side by side,
no element copied. A transposed convolution runs the same way backwards: a GEMM makes the patches of its
output, which are added up through such a view of the output (col2im). Pools reduce the view's taps.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported, host_device
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype

#: What is known here, by name: a name that the specification gains later is not taken unseen.
OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
TYPES = ("f32", "f64", "f16", "f16/f16/f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32", "i8")
MODES = ("zeros", "circular", "reflect", "replicate")
#: The type of the patches, by accumulator. NumPy multiplies integer matrices without BLAS, 30 to 100 times
#: slower; float64 holds every sum of i8 products exactly (K 2**14 < 2**53), and wraps when it becomes an i32.
WORK = {"f32": "f32", "f64": "f64", "i32": "f64", "f16": "f32", "bf16": "f32", "i8": "i8"}
#: Bytes of patches at a time: rows of outputs are taken together up to this, one row always. Beyond 32 MB
#: glibc maps fresh pages for every block: VGG-16's conv1-2 took 73 ms with 64 MB, 53 ms with 16 MB (one thread).
CHUNK = 16 << 20


def patches(spec: ConvSpec, x: np.ndarray) -> np.ndarray:
    """The patch matrix of one image, a block a group: y = weights @ patches, without the bias.

    Parameters
    ----------
    spec : ConvSpec
        A conv or a pool.
    x : ndarray, (in_channels, in_size...)

    Returns
    -------
    ndarray, (groups, taps of one output, outputs of one channel), x's dtype
        Rows go over the group's channels and then the kernel, columns over the output, both row-major:
        `w.reshape(groups, out_channels // groups, -1) @ patches` is y. A pool's padding holds zeros.

    Examples
    --------
    >>> x = np.array([[1, 2, 3, 4]])
    >>> patches(ConvSpec("conv", (4,), (3,), padding=((1, 1),)), x)
    array([[[0, 1, 2, 3],
            [1, 2, 3, 4],
            [2, 3, 4, 0]]])
    """
    if spec.op == "conv_transpose":
        raise ValueError("conv_transpose has no patches of its input: it makes those of its output")
    return windows(spec, padded(spec, x, x.dtype)).reshape(spec.groups, -1, prod(spec.out_size))


def padded(spec: ConvSpec, x: np.ndarray, kind: np.dtype[Any], fill: float = 0) -> np.ndarray:
    """One image with its padding, from the first output's first tap to the last output's last tap.

    Parameters
    ----------
    spec : ConvSpec
    x : ndarray, (channels, in_size...)
    kind : dtype
        Of the result.
    fill : float
        What stands outside in the mode zeros.

    Returns
    -------
    ndarray, (channels, lengths...)
        A view of x where nothing is outside and the type is right.
    """
    for i, (a, out) in enumerate(zip(spec.axes, spec.out_size, strict=True), start=1):
        first, stop = -a.lo, (out - 1) * a.s + a.extent - a.lo
        inside = x[(slice(None),) * i + (slice(max(first, 0), max(min(stop, a.n), 0)),)]
        if first >= 0 and stop <= a.n:
            x = inside
        elif spec.padding_mode == "zeros":
            x = np.full((*x.shape[:i], stop - first, *x.shape[i + 1 :]), fill, kind)
            x[(slice(None),) * i + (slice(max(-first, 0), max(-first, 0) + inside.shape[i]),)] = inside
        else:
            x = np.take(x, _reflected(np.arange(first, stop), a.n, spec.padding_mode), axis=i)
    return x.astype(kind, copy=False)


def _reflected(position: np.ndarray, n: int, mode: str) -> np.ndarray:
    """The element of an axis of `n` that stands at each position, in the modes that copy data."""
    if mode == "circular":
        return position % n
    if mode == "reflect":
        return n - 1 - np.abs(n - 1 - np.abs(position))
    return np.clip(position, 0, n - 1)


def windows(spec: ConvSpec, image: np.ndarray, steps: tuple[int, ...] | None = None) -> np.ndarray:
    """What every tap meets at every step, (channels, kernel_size..., steps...): a view, nothing is copied.

    Element (c, k, o) is image[c, o stride + k dilation]. `steps` are the outputs if not given.
    """
    channel, *size = image.strides
    taps = [z * d for z, d in zip(size, spec.dilation, strict=True)]
    outs = [z * s for z, s in zip(size, spec.stride, strict=True)]
    shape = (len(image), *spec.kernel_size, *(steps or spec.out_size))
    return np.lib.stride_tricks.as_strided(image, shape, (channel, *taps, *outs))


def _rule(spec: ConvSpec) -> str | None:
    """f16 sums (NumPy sums f16 in f32)."""
    if spec.acc_dtype == "f16" and spec.op != "max_pool":
        return "NumPy multiplies f16 matrices with sums in f32, the specification's are f16"
    return None


def _rows(spec: ConvSpec) -> int:
    """How many rows of the patches' steps are taken at a time."""
    channels, size = _steps(spec)
    row = channels * prod(spec.kernel_size) * prod(size[1:]) * numpy_dtype(WORK[spec.acc_dtype]).itemsize
    return min(size[0], max(1, CHUNK // row))


def _steps(spec: ConvSpec) -> tuple[int, tuple[int, ...]]:
    """Channels and steps of the patches: those of x at every output, or of the transposed output at every input."""
    return (spec.out_channels, spec.in_size) if spec.op == "conv_transpose" else (spec.in_channels, spec.out_size)


def _taps(spec: ConvSpec) -> list[tuple[Any, ...]]:
    """The indices of all channels' taps in `windows`, one after the other."""
    return [(slice(None), *tap) for tap in product(*map(range, spec.kernel_size))]


def _lengths(spec: ConvSpec) -> tuple[int, ...]:
    """Lengths of the image that the windows look at: x padded, or the transposed output before its crop."""
    _, size = _steps(spec)
    seen = [(o - 1) * a.s + a.extent for a, o in zip(spec.axes, size, strict=True)]
    if spec.op == "conv_transpose":  # output padding may reach beyond the last stamp
        return tuple(max(z, a.lo + o) for z, a, o in zip(seen, spec.axes, spec.out_size, strict=True))
    return tuple(seen)


class Im2col:
    """The backend object; see the contract in `harness.backend`.

    Examples
    --------
    >>> backend.info.limits.why_not(ConvSpec("conv", (5,), (3,), in_dtype="i8")) is None
    True
    """

    info = BackendInfo(
        "im2col",
        "data to patch matrix, one GEMM a group (NumPy's BLAS)",
        Limits(OPS, TYPES, padding_modes=MODES, rule=_rule),
        version="1",
        nan_max_pool="propagate",
        layouts=LAYOUTS,
        thread_safe=True,
    )

    def probe(self) -> Probe:
        """The host's processor."""
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """Of one image: the padded copy, a chunk of patches and of products; and the weights."""
        work = numpy_dtype(WORK[spec.acc_dtype]).itemsize
        channels, size = _steps(spec)
        image = channels * prod(max(z, n) for z, n in zip(_lengths(spec), spec.in_size, strict=True))
        step = spec.out_channels + (0 if spec.is_pool else channels * prod(spec.kernel_size))
        chunk = _rows(spec) * prod(size[1:]) * step
        operands = 2 * prod(spec.w_shape or (0,)) + prod(spec.x_shape[1:]) + prod(spec.out_shape[1:]) + spec.out_channels
        return (2 * image + chunk + operands) * work + 8 * prod(spec.out_shape[1:]) + 16 * sum(_lengths(spec))

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Keep the specification: nothing is planned."""
        if device != "cpu":
            raise Unsupported(f"backend 'im2col' has no device {device!r}: its device is 'cpu'")
        return _Prepared(spec)


class _Prepared:
    """One specification; all the work is in `run`."""

    def __init__(self, spec: ConvSpec) -> None:
        self.spec, self._work, self._rows = spec, numpy_dtype(WORK[spec.acc_dtype]), _rows(spec)
        self.phases: dict[str, float] = {}
        self._last = 0.0
        counts = [np.array(c, self._work) for c in spec.divisor_counts] if spec.op == "avg_pool" else []
        self._divisors = reduce(np.multiply.outer, counts) if counts else None

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Compute image by image."""
        self.phases, self._last = {"pack": 0.0, "kernel": 0.0, "copy": 0.0}, perf_counter()
        if w is not None:
            w = (np.flip(w, tuple(range(2, w.ndim))) if self.spec.flip else w).astype(self._work, copy=False)
        if b is not None:
            b = b.astype(self._work, copy=False).reshape(self.spec.groups, -1, 1)
        with np.errstate(over="ignore", invalid="ignore"):  # Inf and NaN are results here, not faults
            for image, target in zip(x, out, strict=True):
                if w is None:
                    self._pool(image, target)
                elif self.spec.op == "conv":
                    self._conv(image, w, b, target)
                else:
                    self._transpose(image, w, b, target)

    def _conv(self, image: np.ndarray, w: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> None:
        """Y = W @ patches, a GEMM a group, so many output rows at a time that the patches stay within `CHUNK`."""
        spec, groups, row = self.spec, self.spec.groups, prod(self.spec.out_size[1:])
        view = windows(spec, padded(spec, image, self._work))
        matrix, y = w.reshape(groups, spec.out_channels // groups, -1), out.reshape(groups, spec.out_channels // groups, -1)
        for first in range(0, spec.out_size[0], self._rows):
            some = view[(slice(None),) * (1 + spec.rank) + (slice(first, first + self._rows),)]
            block = some.reshape(groups, matrix.shape[2], -1)  # copies, unless every element is read once, in order (1x1)
            self._lap("pack")
            target = y[..., first * row : first * row + block.shape[2]]
            found = np.matmul(matrix, block, out=target if out.dtype == self._work else None)
            self._lap("kernel")
            self._finish(found, b, target)
            del some, block, found  # before the next are made

    def _transpose(self, image: np.ndarray, w: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> None:
        """W^T @ x gives the patches of the output; each tap's are added where it stamps (col2im)."""
        spec, groups, row = self.spec, self.spec.groups, prod(self.spec.in_size[1:])
        full = np.zeros((spec.out_channels, *_lengths(spec)), self._work)
        view = windows(spec, full, spec.in_size)
        matrix = w.reshape(groups, spec.in_channels // groups, -1).transpose(0, 2, 1)
        x = image.astype(self._work, copy=False).reshape(groups, spec.in_channels // groups, -1)
        self._lap("pack")
        for first in range(0, spec.in_size[0], self._rows):
            rows = slice(first, first + self._rows)
            found = np.matmul(matrix, x[..., first * row : rows.stop * row])
            self._lap("kernel")
            stamps = found.reshape(*view.shape[: 1 + spec.rank], -1, *spec.in_size[1:])
            for at in _taps(spec):
                view[(*at, rows)] += stamps[at]
            del found, stamps
            self._lap("copy")
        inside = [slice(a.lo, a.lo + o) for a, o in zip(spec.axes, spec.out_size, strict=True)]
        y = full[(slice(None), *inside)].reshape(groups, spec.out_channels // groups, -1)
        self._finish(y, b, out.reshape(y.shape))

    def _pool(self, image: np.ndarray, out: np.ndarray) -> None:
        """The maximum or the sum over the patches' rows, tap by tap; what is outside never counts."""
        combine: np.ufunc = np.add if self._divisors is not None else np.maximum
        lowest = -np.inf if self._work.kind == "f" else np.iinfo(self._work).min
        view = windows(self.spec, padded(self.spec, image, self._work, 0 if combine is np.add else lowest))
        self._lap("pack")
        first, *others = (view[at] for at in _taps(self.spec))
        y = first.copy()
        for other in others:
            combine(y, other, out=y)
        self._lap("kernel")
        if self._divisors is not None:
            y /= self._divisors
        self._finish(y, None, out)

    def _finish(self, y: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> None:
        """Add the bias, round or wrap to the output's type, and write, unless `y` was computed in its place."""
        if b is not None:
            y += b
        if y is not out:
            out[...] = y.astype(np.int64) if self.spec.out_dtype == "i32" else narrow(y, self.spec)
        self._lap("copy")

    def _lap(self, phase: str) -> None:
        now = perf_counter()
        self.phases[phase] += now - self._last
        self._last = now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


backend = Im2col()
