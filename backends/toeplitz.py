"""`toeplitz`: the filter becomes a sparse matrix, and the convolution is that matrix times x.

The lecture's first view. On one axis the matrix is Toeplitz: each row holds the taps one stride to the
right of the row above, so every diagonal is constant. Circular padding makes it circulant; under reflected
and replicated padding only the rows at the boundary change, where a tap that falls outside reads an element
inside once more. Further axes, and channels, nest such matrices in each other's entries: a multi-level
Toeplitz matrix. Groups are blocks on its diagonal, a transposed convolution is the transposed matrix, an
average pool a matrix of ones whose rows are then divided by the number of taps.

Where the entries stand depends on the specification alone: `structure` finds it by index arithmetic, a
table an axis, then all axes together, then the channels. A run only puts the weights into their places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported, host_device
from harness.spec import ConvSpec
from harness.spec.geometry import Axis
from harness.spec.host import narrow, numpy_dtype, widen

#: What is known here, by name: a name that the specification gains later is not taken unseen.
OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
TYPES = ("f32", "f64", "f16", "f16/f16/f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32", "i8")
MODES = ("zeros", "circular", "reflect", "replicate")
#: Entries of the largest matrix: 0.5 GB in float32, 0.7 GB in float64.
MOST_ENTRIES = 60_000_000
HINT = "pip install 'convproof[toeplitz]'"


def matrix(spec: ConvSpec, w: np.ndarray | None = None) -> Any:
    """The whole operator as a matrix: y.ravel() = matrix @ x.ravel() for one image, without the bias.

    Parameters
    ----------
    spec : ConvSpec
        Any op but max_pool, which is not linear.
    w : ndarray of `spec.w_shape`, the input's dtype
        None for avg_pool.

    Returns
    -------
    scipy.sparse.csr_array, (elements of one output, elements of one input), the accumulator's dtype
        A weight of zero is stored; only taps that read padding have no entry.

    Raises
    ------
    ValueError
        Where the backend does not take `spec`; the message is its reason.

    Examples
    --------
    >>> w = np.array([[[1, 2, 3]]], np.float32)
    >>> matrix(ConvSpec("conv", (4,), (3,), padding=((1, 1),)), w).toarray().astype(int)
    array([[2, 3, 0, 0],
           [1, 2, 3, 0],
           [0, 1, 2, 3],
           [0, 0, 1, 2]])
    """
    if reason := backend.info.limits.why_not(spec):
        raise ValueError(reason)
    a = structure(spec).filled(_weights(spec, w)).tocsr()
    a.sum_duplicates()  # reflected and replicated elements are read by several taps of a row
    if spec.op == "avg_pool":
        a.data /= np.repeat(np.tile(_divisors(spec).reshape(-1), spec.out_channels), np.diff(a.indptr))
    return a


@dataclass(frozen=True)
class Structure:
    """Where the entries of a convolution's matrix stand, in the CSR format, and which weight each one is.

    Attributes
    ----------
    shape : (int, int)
        Outputs and inputs of one image, channels included.
    starts : ndarray, rows + 1
        Row r has the entries numbered starts[r] to starts[r+1] - 1.
    columns : ndarray, an element an entry
        Its column.
    taps : ndarray, an element an entry of the first output channel's rows
        Its place among the channel's weights. All output channels have their entries in the same order.
    transposed : bool
        Whether the operator is the transposed matrix.
    """

    shape: tuple[int, int]
    starts: np.ndarray
    columns: np.ndarray
    taps: np.ndarray
    transposed: bool

    def filled(self, weights: np.ndarray) -> Any:
        """The operator's matrix with `weights`, (channels of the rows, ...), in their places."""
        from scipy.sparse import csr_array

        values = np.take(weights.reshape(len(weights), -1), self.taps, axis=1).reshape(-1)
        a = csr_array((values, self.columns, self.starts), shape=self.shape)
        return a.T if self.transposed else a


def structure(spec: ConvSpec) -> Structure:
    """Find where the entries of the matrix of `spec` stand."""
    groups = spec.in_channels if spec.is_pool else spec.groups
    rows, columns = (spec.out_channels, spec.out_size), (spec.in_channels, spec.in_size)
    if transposed := spec.op == "conv_transpose":  # of the convolution that leads from its outputs to its inputs
        rows, columns = columns, rows
    (out_channels, out_size), (in_channels, in_size) = rows, columns
    pixels, index = prod(in_size), _index_type(spec)
    axes = zip(spec.axes, in_size, out_size, strict=True)
    tables = [axis_table(a, n, out, spec.padding_mode).astype(index) for a, n, out in axes]
    source, tap, count = _all_axes(tables, in_size)
    # An output channel reads the channels of its group: the same columns, a group's width further in each group.
    channel = np.arange(in_channels // groups, dtype=index)
    first = np.arange(out_channels, dtype=index) // (out_channels // groups) * (channel.size * pixels)
    block = (source[:, None] + channel * pixels).reshape(-1)
    starts = np.zeros(out_channels * count.size + 1, index)
    np.cumsum(np.tile(count * channel.size, out_channels), out=starts[1:])
    return Structure(
        (out_channels * prod(out_size), in_channels * pixels),
        starts,
        (first[:, None] + block).reshape(-1),
        (tap[:, None] + channel * prod(spec.kernel_size)).reshape(-1),
        transposed,
    )


def axis_table(a: Axis, n: int, out: int, mode: str) -> np.ndarray:
    """The input that each (output, tap) of one axis reads, (out, taps); -1 where it reads nothing.

    Parameters
    ----------
    a : Axis
    n, out : int
        Inputs and outputs of the axis.
    mode : str
        The padding mode.

    Examples
    --------
    >>> axis_table(Axis(4, 3, lo=1, hi=1), 4, 4, "reflect").tolist()
    [[1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 2]]
    """
    position = np.arange(out)[:, None] * a.s + np.arange(a.m) * a.d - a.lo
    if mode == "circular":
        return position % n
    if mode == "reflect":
        return n - 1 - np.abs(n - 1 - np.abs(position))
    if mode == "replicate":
        return np.clip(position, 0, n - 1)
    return np.where((position >= 0) & (position < n), position, -1)


def _all_axes(tables: list[np.ndarray], sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every tap that reads data, output by output: the input and the tap; and how many each output has."""
    rank = len(tables)
    source: Any = 0
    reads: Any = True
    for i, (table, n) in enumerate(zip(tables, sizes, strict=True)):
        one = np.expand_dims(table, tuple(j for j in range(2 * rank) if j % rank != i))  # outputs' axes, then taps'
        source, reads = source * n + one, reads & (one >= 0)
    taps = prod(source.shape[rank:])
    source, reads = source.reshape(-1, taps), reads.reshape(-1, taps)
    tap = np.broadcast_to(np.arange(taps, dtype=tables[0].dtype), source.shape)
    return source[reads], tap[reads], np.count_nonzero(reads, axis=1)


def entries(spec: ConvSpec) -> int:
    """How many entries the matrix has: the taps of one image's outputs that read data.

    Examples
    --------
    >>> entries(ConvSpec("conv", (4,), (3,), padding=((1, 1),)))
    10
    """
    return spec.out_channels * spec.channel_taps * prod(sum(counts) for counts in spec.tap_counts)


def _rule(spec: ConvSpec) -> str | None:
    """max_pool (a maximum is not linear), f16 sums, matrices of over 60 million entries."""
    if spec.op == "max_pool":
        return "a maximum is not linear: no matrix computes it"
    if spec.acc_dtype == "f16":
        return "scipy.sparse has no f16: its sums are f32, the specification's f16"
    if (count := entries(spec)) > MOST_ENTRIES:
        return f"the matrix repeats every weight at every output: {count:,} entries, the most are {MOST_ENTRIES:,}"
    return None


def _index_type(spec: ConvSpec) -> type[np.signedinteger]:
    most = max(prod(spec.x_shape[1:]), prod(spec.out_shape[1:]), entries(spec))
    return np.int32 if most < 2**31 else np.int64


def _weights(spec: ConvSpec, w: np.ndarray | None) -> np.ndarray:
    """The stored taps in the order in which they meet x, in the accumulator's type; ones for a pool."""
    if w is None:
        return np.ones((spec.in_channels, 1, *spec.kernel_size), numpy_dtype(spec.acc_dtype))
    return widen(np.flip(w, tuple(range(2, w.ndim))) if spec.flip else w, spec)


def _divisors(spec: ConvSpec) -> np.ndarray:
    """How many elements each output of an average pool divides by, (out_size...), the accumulator's dtype."""
    return reduce(np.multiply.outer, [np.array(c, numpy_dtype(spec.acc_dtype)) for c in spec.divisor_counts])


class Toeplitz:
    """The backend object; see the contract in `harness.backend`.

    Examples
    --------
    >>> backend.info.limits.why_not(ConvSpec("max_pool", (5,), (3,)))
    'a maximum is not linear: no matrix computes it'
    """

    info = BackendInfo(
        "toeplitz",
        "filter to sparse multi-level Toeplitz matrix, applied as a matrix (scipy.sparse)",
        Limits(OPS, TYPES, padding_modes=MODES, rule=_rule),
        extra="toeplitz",
        version="1",
        layouts=LAYOUTS,
        thread_safe=True,
    )

    def probe(self) -> Probe:
        """The host's processor, or that scipy is missing."""
        try:
            import scipy.sparse  # noqa: F401
        except Exception as error:  # noqa: BLE001 - scipy is foreign code, and a probe never raises
            return Probe(reason=f"backend 'toeplitz' needs scipy: {error}", hint=HINT)
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The most that is held at once: while the tables are combined, while they are repeated, or in a run."""
        transposed = spec.op == "conv_transpose"
        channels, size = (spec.in_channels, spec.in_size) if transposed else (spec.out_channels, spec.out_size)
        value, index = spec.acc_type.itemsize, np.dtype(_index_type(spec)).itemsize
        all_rows, kernel, outputs = entries(spec), prod(spec.kernel_size), prod(spec.out_shape)
        rows = all_rows // channels  # entries in the rows of one channel
        combined = prod(size) * kernel * (index + 1) + 2 * rows * index
        repeated = (all_rows + 4 * rows) * index
        weights = 2 * prod(spec.w_shape or (channels, kernel)) * value
        columns = 2 * (prod(spec.x_shape) + outputs) * value + outputs * spec.out_type.itemsize
        run = all_rows * (index + value) + rows * (index + 8) + weights + columns
        return max(combined, repeated, run) + (8 + index) * (channels + 2) * prod(size) + 4096

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Find where the entries stand."""
        if device != "cpu":
            raise Unsupported(f"backend 'toeplitz' has no device {device!r}: its device is 'cpu'")
        if self.probe().reason:
            raise Unsupported(f"{self.probe().reason}: {HINT}")
        return _Prepared(spec)


class _Prepared:
    """One specification and the structure of its matrix."""

    def __init__(self, spec: ConvSpec) -> None:
        self.spec = spec
        self.phases: dict[str, float] = {}
        self._structure = structure(spec)
        self._divisors = _divisors(spec) if spec.op == "avg_pool" else None

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Put the weights into the matrix, multiply it by one column an image, round."""
        with np.errstate(over="ignore", invalid="ignore"):  # Inf and NaN are results here, not faults
            start = perf_counter()
            a = self._structure.filled(_weights(self.spec, w))
            columns = widen(x, self.spec).reshape(len(x), a.shape[1]).T
            packed = perf_counter()
            y = (a @ columns).T.reshape(out.shape)
            multiplied = perf_counter()
            if b is not None:
                y += b.reshape(-1, *(1,) * self.spec.rank)
            if self._divisors is not None:
                y /= self._divisors
            out[...] = narrow(y, self.spec)
        self.phases = {"pack": packed - start, "kernel": multiplied - packed, "copy": perf_counter() - multiplied}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        del self._structure


backend = Toeplitz()
