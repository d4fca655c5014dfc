"""`fft`: convolution by the convolution theorem, with SciPy's transforms of real data.

A specification becomes a convolution of stride 1 (`backends.fft_phases`), which overlap-save computes in
blocks (`backends.fft_blocks`); channels are contracted frequency by frequency. float32 stays complex64.

The rounding error of an output is relative to the norms of its image and kernel, not to its own terms: a
small sum beside large data loses its digits, a NaN or an infinity spreads over its block, and transforms
overflow where N sum |x||w| does, before any output need. Subnormal results are noise for the same reason.
Outputs that no tap reaches are exact all the same, and so are integers while the bound stays below 1/4.

References
----------
C. Percival, "Rapid multiplication modulo the sum and difference of highly composite numbers", Math. Comp. 72,
2003 (error); M. Mathieu, M. Henaff, Y. LeCun, "Fast training of convolutional networks through FFTs", 2014.
"""

from __future__ import annotations

import os
from functools import lru_cache
from math import log2, prod, sqrt
from time import perf_counter
from typing import Any, Self

import numpy as np

from backends.fft_blocks import Plan, lengths, make_plan, overlap_save
from backends.fft_phases import Dense, dense, inputs, kernels, outputs
from harness.backend import FFT, BackendInfo, Limits, Prepared, Probe, Unsupported, host_device
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype
from harness.spec.host import narrow, numpy_dtype

TYPES = ("f32", "f64", "f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32", "i8")
#: The type that is transformed, by accumulator: sums of bytes are integers that float64 rounds to.
WORK = {"f32": "f32", "f64": "f64", "i32": "f64"}
HINT = "pip install 'convproof[fft]'"


def integer_error(spec: ConvSpec) -> float:
    """The error that a sum of products of bytes may have before it is rounded to an integer.

    4 max(log2 N, 4) u sum_c |x_c|_2 |w_c|_2, with every byte at 128, N the transform's length and u = 2^-53.

    Examples
    --------
    >>> integer_error(ConvSpec("conv", (224, 224), (3, 3), in_channels=64, in_dtype="i8")) < 1e-5
    True
    """
    _, plan = planned(spec)
    norms = spec.channel_taps * 128.0**2 * sqrt(float(prod(spec.kernel_size)) * prod(plan.transform))
    return 4.0 * max(log2(prod(plan.transform)), 4.0) * 2.0**-53 * norms


def _rule(spec: ConvSpec) -> str | None:
    """Sums of bytes too long to round to the exact integer."""
    if not spec.out_type.is_float and (error := integer_error(spec)) >= 0.25:
        return f"sums of {spec.accumulation_length} products of bytes may err by {error:.2g}: rounding needs less than 0.25"
    return None


@lru_cache(512)
def planned(spec: ConvSpec) -> tuple[Dense, Plan]:
    """The dense convolution that computes `spec`, and its blocks."""
    d = dense(spec)
    return d, make_plan(d, dtype(WORK[spec.acc_dtype]).itemsize)


class Fft:
    """The backend object; see the contract in `harness.backend`.

    Examples
    --------
    >>> backend.info.limits.why_not(ConvSpec("max_pool", (5,), (3,)))
    'op max_pool is not among conv, conv_transpose'
    """

    info = BackendInfo(
        "fft",
        "overlap-save by real transforms of scipy.fft, strides as phases",
        Limits(("conv", "conv_transpose"), TYPES, padding_modes=("zeros", "circular", "reflect", "replicate"), rule=_rule),
        FFT,
        extra="fft",
        version="2",
        taint="image",
        thread_safe=True,
    )

    def probe(self) -> Probe:
        """The host's processor, or that SciPy is missing."""
        try:
            _scipy()
        except Exception as error:  # noqa: BLE001 - SciPy is foreign code, and a probe never raises
            return Probe(reason=f"backend 'fft' needs scipy: {error}", hint=HINT)
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The operands and their phases, the output before rounding, and the spectra."""
        d, plan = planned(spec)
        work = dtype(WORK[spec.acc_dtype]).itemsize
        x = d.batch * d.groups * d.cols * prod(lengths(d, plan, work))
        h = d.groups * d.rows * d.cols * prod(a.m for a in d.axes)
        z = d.batch * d.groups * d.rows * prod(a.count for a in d.axes)
        whole = prod(s / len(p) for s, p in zip(spec.stride, d.phases, strict=True))  # before unused phases are left out
        split, kept = (h + z, x) if spec.op == "conv_transpose" else (x + h, z)
        ends = 0 if _direct(spec) else kept + 2 * prod(spec.out_shape)
        return int(work * ((1 + whole) * split + ends)) + plan.spectra_bytes

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Plan the blocks."""
        if device != "cpu":
            raise Unsupported(f"backend 'fft' has no device {device!r}: its device is 'cpu'")
        try:
            return _Prepared(spec, _scipy())
        except ImportError as error:
            raise Unsupported(f"backend 'fft' needs scipy ({error}): {HINT}") from error


backend = Fft()


class _Prepared:
    """One specification with its plan."""

    def __init__(self, spec: ConvSpec, fft: Any) -> None:
        self.spec, self._fft = spec, fft
        self._dense, self._plan = planned(spec)
        self._work = numpy_dtype(WORK[spec.acc_dtype])
        self._lengths = lengths(self._dense, self._plan, self._work.itemsize)
        self._workers = _threads()
        self._unreached = _unreached(spec)
        self.phases: dict[str, float] = {}

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Split into phases, transform, round."""
        assert w is not None
        start = perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are data here
            xs = inputs(self.spec, self._dense, x, self._work, self._lengths)
            hs = kernels(self.spec, self._dense, w, self._work)
            packed = perf_counter()
            direct = _direct(self.spec)
            into = out.reshape(xs.shape[0], self._dense.groups, self._dense.rows, *self.spec.out_size) if direct else None
            z = overlap_save(xs, hs, self._dense, self._plan, self._fft, into, self._workers)
            transformed = perf_counter()
            y = out if direct else outputs(self.spec, self._dense, z)
            for index in self._unreached:
                y[index] = 0
            if not self.spec.out_type.is_float:
                y = np.rint(y).astype(np.int64)
            if b is not None:
                y += b.reshape(-1, *(1,) * self.spec.rank)
            if not direct:
                out[...] = narrow(y, self.spec)
        self.phases = {"pack": packed - start, "kernel": transformed - packed, "copy": perf_counter() - transformed}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def _direct(spec: ConvSpec) -> bool:
    """Whether the outputs are written where they belong: nothing is left to interleave or to round."""
    return spec.op == "conv" and spec.out_dtype == WORK[spec.acc_dtype]


def _unreached(spec: ConvSpec) -> list[tuple[Any, ...]]:
    """An index an axis that selects the outputs which no tap reaches: they equal the bias exactly."""
    found = []
    for i, counts in enumerate(spec.tap_counts):
        none = np.flatnonzero(np.asarray(counts) == 0)
        if none.size:
            found.append((slice(None),) * (2 + i) + (none,))
    return found


def _threads() -> int:
    """The threads that this process was given, by the variable that BLAS reads too; one where it says nothing."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(text)) if text.isdigit() else 1


def _scipy() -> Any:
    import scipy.fft

    return scipy.fft
