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

from harness.backend import BackendInfo, Limits, Prepared, Probe, Unsupported, host_device
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype

#: What is known here, by name: a name that the specification gains later is not taken unseen.
OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
TYPES = ("f32", "f64", "f16", "f16/f16/f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32", "i8")
MODES = ("zeros", "circular", "reflect", "replicate")
#: The type of the patches, by accumulator. NumPy multiplies integer matrices without BLAS, 30 to 100 times
#: slower; float64 holds every sum of i8 products exactly (K 2**14 < 2**53), and wraps when it becomes an i32.
WORK = {"f32": "f32", "f64": "f64", "i32": "f64", "f16": "f32", "bf16": "f32", "i8": "i8"}
#: Bytes of patches at a time: rows of outputs are taken together up to this, one row always.
CHUNK = 64 << 20


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
        inside = x[(slice(None),) * i + (slice(max(first, 0), min(stop, a.n)),)]
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
