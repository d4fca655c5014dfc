"""How far from the right output is still right: the tolerance, derived, never tuned.

    tol = E + u_out (|y| + E) + eta_out      (the output's terms only where it rounds again)
    E   = c(class, data) u A + 2 max(1, sqrt K) u |b| + U

u is the unit roundoff of the accumulator that the specification names, K the accumulation length of
the output element, A = |w| * |x|, U = (K+1) eta/2 for gradual underflow. Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., ch. 3 (K u A); Higham & Mary, "A new approach to
probabilistic rounding error analysis", SISC 41(5), 2019 (sqrt K); Percival, "Rapid multiplication
modulo the sum and difference of highly composite numbers", Math. Comp. 72, 2003 (FFT). The
constants are measured: see `constant`.

FFT, N the size of the whole transform, C the channels that an output sums, |.|_2 over a channel:
    zero-mean  max(log2 N, 12, 4 + sqrt C) u sqrt(sum_c (|x_c| |w_c|)^2)
    positive   max(4 log2 N, 16, 4 + sqrt C) u sum_c |x_c| |w_c|
The transform's error does not grow with C, the sum over channels in the accumulator's type does, like sqrt C:
right float32 FFTs with channels added one by one measured 1.5, 5.4, 21 and 44 u at C = 1, 64, 1024 and 4096 (N = 4).
"""

from __future__ import annotations

from math import log2, prod, sqrt

import numpy as np

from harness.backend import AlgorithmClass, Device
from harness.data import Operands
from harness.oracle import toom
from harness.oracle.wide import Reference
from harness.oracle.windows import padded, tap_lengths
from harness.spec import ConvSpec

#: Of a transform's error on zero-mean data, in u |x|_2 |w|_2, at any length. Lengths with factors of 3 and 7 err most: their
#: cosines round, the same way in each call. Measured at most 7.5, over 300,000 convolutions of each short length.
FFT_FLOOR = 12.0
#: rms(err / (u A)) of right direct sums on zero-mean data stays below this (measured: at most 0.38),
RMS_LIMIT = 1.5
#: where at least this many outputs are compared.
RMS_COUNT = 256


class NoBound(ValueError):
    """No bound is known for an algorithm class, so that nothing may be judged by one."""


def constant(data: str, k: np.ndarray, u: float) -> np.ndarray:
    """c(direct, data) for each accumulation length.

    Parameters
    ----------
    data : {'zero-mean', 'positive'}
        Zero-mean S-fill: 8 (measured at most 3.97 over all right direct sums; K u A would miss TF32
        and bfloat16). Positive: max(8, 4 sqrt K) while K u <= 0.1, beyond it the ceiling K.
    k : ndarray of float64
    u : float
        Unit roundoff of the accumulator.
    """
    if data == "zero-mean":
        return np.where(k > 0, 8.0, 0.0)
    random = np.where(k * u <= 0.1, np.maximum(8.0, 4.0 * np.sqrt(k)), np.maximum(k, 8.0))
    return np.where(k > 0, random, 0.0)


def tolerance(
    spec: ConvSpec, algorithm: AlgorithmClass, device: Device, data: str, ops: Operands, ref: Reference
) -> np.ndarray:
    """The largest |y - y_ref| that a right implementation may show, elementwise.

    Parameters
    ----------
    spec : ConvSpec
    algorithm : AlgorithmClass
    device : Device
        Its declared rounding and denormals widen the bound: truncation doubles every u, and makes c
        max(8, 4 sqrt K) on zero-mean data and K on positive; flushing adds (K+1) tiny, flushed inputs
        tiny (sum|w| + sum|x|) more (of the input's type where an input is subnormal), a flushed output its tiny.
    data : {'zero-mean', 'positive'}
    ops : Operands
    ref : Reference
        Of `ops`.

    Returns
    -------
    ndarray of float64, broadcastable to `spec.out_shape`
        All zeros where equality by value is asked (max_pool where denormals are gradual).

    Raises
    ------
    NoBound
        If the class has none.
    """
    if not spec.out_type.is_float or (spec.op == "max_pool" and device.denormals == "gradual"):
        return np.zeros(())
    if spec.op == "max_pool":
        return np.where(np.abs(ref.hi) < spec.in_type.tiny, spec.in_type.tiny, 0.0)
    coarse = 2.0 if device.rounding == "truncate" else 1.0
    u, k = coarse * spec.acc_type.unit_roundoff, tap_lengths(spec)
    size = np.abs(ref.hi)
    if spec.op == "avg_pool":
        cut = device.rounding == "truncate" and data == "positive"  # errors of one sign
        e = (np.maximum(8.0, k) if cut else constant("positive", k, u)) * u * ref.scale + 3.0 * u * size
    else:
        e = _class_error(spec, algorithm, device, data, ops, ref, k, u)
        if ops.b is not None:
            bias = np.abs(ops.b.astype(np.float64)).reshape(1, -1, *(1,) * spec.rank)
            e = e + np.where(k > 0, 2.0 * np.maximum(1.0, np.sqrt(k)), 0.0) * u * bias
    e = e + _underflow(spec, device, ops, k)
    if spec.out_dtype == spec.acc_dtype:
        return e
    least = np.where((device.denormals == "gradual") | (size > spec.out_type.tiny + e), spec.out_type.eta, spec.out_type.tiny)
    return e + coarse * spec.out_type.unit_roundoff * (size + e) + least


def unit(spec: ConvSpec, ref: Reference) -> np.ndarray:
    """The unit in which errors are stored, u A + tiny of the accumulator (1 for integers): never 0, so no quotient is 0/0."""
    return spec.acc_type.unit_roundoff * ref.scale + (spec.acc_type.tiny or 1.0)


def _class_error(
    spec: ConvSpec,
    algorithm: AlgorithmClass,
    device: Device,
    data: str,
    ops: Operands,
    ref: Reference,
    k: np.ndarray,
    u: float,
) -> np.ndarray:
    if algorithm.kind == "direct":
        if device.rounding == "truncate":  # errors of one sign: a walk with the data's signs, or without
            c = np.maximum(8.0, 4.0 * np.sqrt(k) if data == "zero-mean" else k)
            return np.where(k > 0, c, 0.0) * u * ref.scale
        return constant(data, k, u) * u * ref.scale
    if algorithm.kind == "fft":
        transform, channels = log2(max(_padded_size(spec), 2)), 4.0 + sqrt(spec.channel_taps)
        factor = u * (max(transform, FFT_FLOOR, channels) if data == "zero-mean" else max(4.0 * transform, 16.0, channels))
        norms = _channel_norms(spec, ops)
        scale = _norm(norms, (-1,)) if data == "zero-mean" else np.sum(norms, -1)
        return (factor * scale).reshape(*scale.shape, *(1,) * spec.rank)
    if algorithm.kind == "winograd":
        if any(a.m != algorithm.r or a.s != 1 or a.d != 1 for a in spec.axes) or spec.op != "conv":
            raise NoBound(f"{algorithm} has a bound for dense kernels of {algorithm.r} and stride 1, not for {spec}")
        assert ops.w is not None
        wide = toom.scale(spec, algorithm, ops.x.astype(np.float64), ops.w.astype(np.float64))
        return (4.0 if data == "zero-mean" else 4.0 + sqrt(spec.channel_taps)) * u * wide
    raise NoBound(f"no error bound is known for the algorithm class {algorithm}: direct, fft and winograd have one")


def _padded_size(spec: ConvSpec) -> int:
    """Elements of the whole transform that a linear convolution of this size needs."""
    return prod(
        (a.n - 1) * (a.s if spec.op == "conv_transpose" else 1) + max(a.lo, 0) + max(a.hi, 0) + a.extent for a in spec.axes
    )


def _channel_norms(spec: ConvSpec, ops: Operands) -> np.ndarray:
    """|x_c|_2 |w_c|_2 for every (batch, out channel, input channel of its group)."""
    assert ops.w is not None
    axes = tuple(range(2, 2 + spec.rank))
    x = ops.x.astype(np.float64)
    if spec.padding_mode != "zeros":
        x = padded(spec, x, 0.0)
    x, w = _norm(x, axes), _norm(ops.w.astype(np.float64), axes)
    if spec.op == "conv_transpose":
        w = np.concatenate([part.T for part in np.split(w, spec.groups)])
    group = np.arange(spec.out_channels) // (spec.out_channels // spec.groups)
    channel = group[:, None] * (spec.in_channels // spec.groups) + np.arange(spec.in_channels // spec.groups)
    norms: np.ndarray = x[:, channel] * w[None]
    return norms


def _norm(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The 2-norm over `axes`, its squares kept in range by a power of two."""
    top = int(np.frexp(np.max(np.abs(a), initial=0.0))[1])
    norm: np.ndarray = np.ldexp(np.sqrt(np.sum(np.ldexp(a, -top) ** 2, axes)), top)
    return norm


def _underflow(spec: ConvSpec, device: Device, ops: Operands, k: np.ndarray) -> np.ndarray:
    t = spec.acc_type
    if device.denormals == "gradual":
        return np.where(k > 0, (k + 1) * t.eta / 2, 0.0)
    flush = (k + 1) * t.tiny
    if device.denormals == "flush-inputs":
        sizes = [np.abs(a.astype(np.float64)) for a in (ops.x, ops.w) if a is not None]
        small = any(bool(np.any((a > 0) & (a < spec.in_type.tiny))) for a in sizes)
        tiny = max(t.tiny, spec.in_type.tiny) if small else t.tiny  # an f16 input may be lost before an f32 sum begins
        flush = flush + tiny * (k * sum(float(np.max(a, initial=0.0)) for a in sizes) + (small and ops.w is None))
    return flush
