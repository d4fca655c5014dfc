"""`winograd` and `winograd-f43`: minimal filtering of tiles, F(2,3) and F(4,3), nested in two dimensions.

Kernels have 3 taps an axis, stride and dilation are 1. The input is cut into tiles of m + 2 that overlap by
2; kernels and tiles are transformed axis by axis, channels are contracted by one GEMM for each of a
tile's frequencies, and the products are transformed back into m outputs a tile.

F(2,3) has matrices of 0, 1, -1 and 1/2: integers come out exactly while their sums, amplified by the
transforms, fit the accumulator. F(4,3) saves more (in two dimensions 2.25 products an output, where F(2,3)
takes 4 and a direct sum 9) and has thirds in G: its errors are some twenty times larger. A NaN spreads to
the tiles that read it.

References
----------
A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.
"""

from __future__ import annotations

from math import prod
from time import perf_counter
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backends.padding import padded
from backends.winograd_transforms import Matrix, transforms
from harness.backend import AlgorithmClass, BackendInfo, Limits, Prepared, Probe, Unsupported, host_device
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype

TAPS = 3
TYPES = ("f32", "f64", "f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32")
MODES = ("zeros", "circular", "reflect", "replicate")


class Winograd:
    """A backend of F(m, 3); see the contract in `harness.backend`.

    Parameters
    ----------
    name : str
    m : int
        Outputs of a tile, an axis.
    points : tuple of float
        The m + 1 finite interpolation points.

    Examples
    --------
    >>> backend.info.limits.why_not(ConvSpec("conv", (9,), (5,)))
    'its kernels have 3 taps an axis'
    """

    def __init__(self, name: str, m: int, points: tuple[float, ...]) -> None:
        self.m, self.transforms = m, transforms(m, TAPS, points)
        self.info = BackendInfo(
            name,
            f"Winograd's F({m},{TAPS}) on tiles, a GEMM a frequency, in NumPy",
            Limits(
                ("conv",),
                TYPES,
                ranks=(1, 2),
                padding_modes=MODES,
                dilation=False,
                least_taps=TAPS,
                most_taps=TAPS,
                most_stride=1,
            ),
            AlgorithmClass("winograd", m, TAPS, points),
            version="1",
            taint="tile",
            thread_safe=True,
        )

    def probe(self) -> Probe:
        """The host's processor: NumPy is all that it needs."""
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """Each stage's array beside the one it is made from, in the accumulator's type."""
        assert spec.w_shape is not None
        m, n, tiles = self.m**spec.rank, (self.m + TAPS - 1) ** spec.rank, prod(tile_counts(spec, self.m))
        kernels = spec.out_channels * spec.in_channels // spec.groups
        x, y = spec.batch * spec.in_channels, spec.batch * spec.out_channels
        frequencies = n * (2 * kernels + tiles * (3 * x + 2 * y))
        rest = x * prod(lengths(spec, self.m)) + 3 * prod(spec.w_shape) + 2 * m * tiles * y
        return (frequencies + rest) * spec.acc_type.itemsize

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Round the matrices to the accumulator's type."""
        if device != "cpu":
            raise Unsupported(f"backend {self.info.name!r} has no device {device!r}: its device is 'cpu'")
        return _Prepared(spec, self.m, self.transforms)


backend = Winograd("winograd", 2, (0.0, 1.0, -1.0))
backend_f43 = Winograd("winograd-f43", 4, (0.0, 1.0, -1.0, 2.0, -2.0))


def tile_counts(spec: ConvSpec, m: int) -> tuple[int, ...]:
    """Tiles an axis, ceil(outputs / m).

    Examples
    --------
    >>> tile_counts(ConvSpec("conv", (9, 6), (3, 3)), 4)
    (2, 1)
    """
    return tuple(-(-o // m) for o in spec.out_size)


def lengths(spec: ConvSpec, m: int) -> tuple[int, ...]:
    """Input elements an axis that the tiles read, padding included."""
    return tuple(t * m + TAPS - 1 for t in tile_counts(spec, m))


class _Prepared:
    """One specification with its matrices."""

    def __init__(self, spec: ConvSpec, m: int, matrices: tuple[Matrix, Matrix, Matrix]) -> None:
        self.spec, self._m = spec, m
        self._work = numpy_dtype(spec.acc_dtype)
        self._at, self._g, self._bt = (np.array(a, np.float64).astype(self._work) for a in matrices)
        self.phases: dict[str, float] = {}

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Transform, multiply, transform back, crop, round."""
        assert w is not None
        if out.size == 0:
            return
        start = perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are data here
            tiles = gather(padded(x, self.spec, lengths(self.spec, self._m), self._work), self._m)
            u, v = self.kernels(w), self.frequencies(tiles)
            packed = perf_counter()
            y = self.outputs(np.matmul(u, v))
            multiplied = perf_counter()
            if b is not None:
                y = y + b.reshape(-1, *(1,) * self.spec.rank)
            out[...] = narrow(y, self.spec)
        self.phases = {"pack": packed - start, "kernel": multiplied - packed, "copy": perf_counter() - multiplied}

    def kernels(self, w: np.ndarray) -> np.ndarray:
        """G w, (frequencies, groups, rows, cols): a matrix of output x input channels a frequency and group."""
        s = self.spec
        axes = tuple(range(2, 2 + s.rank))
        taps = (np.flip(w, axes) if s.flip else w).astype(self._work)
        return _in_front(self._g, taps, axes).reshape(-1, s.groups, s.out_channels // s.groups, s.in_channels // s.groups)

    def frequencies(self, tiles: np.ndarray) -> np.ndarray:
        """B^T x, (frequencies, groups, cols, tiles): a matrix of input channels x tiles a frequency and group."""
        s = self.spec
        tiles = tiles.swapaxes(0, 1)
        axes = tuple(range(2 + s.rank, 2 + 2 * s.rank))
        return _in_front(self._bt, tiles, axes).reshape(
            -1, s.groups, s.in_channels // s.groups, prod(tiles.shape[1 : 2 + s.rank])
        )

    def outputs(self, products: np.ndarray) -> np.ndarray:
        """A^T of the products, laid out as the output; what the last tiles compute beyond it is cropped."""
        s = self.spec
        counts = tile_counts(s, self._m)
        n = self._bt.shape[0]
        parts = products.reshape(*(n,) * s.rank, s.out_channels, s.batch, *counts)
        parts = _in_front(self._at, parts, tuple(range(s.rank)))
        order = (s.rank + 1, s.rank, *(e for i in range(s.rank) for e in (s.rank + 2 + i, i)))
        whole = parts.transpose(order).reshape(s.batch, s.out_channels, *(t * self._m for t in counts))
        return whole[(slice(None), slice(None), *map(slice, s.out_size))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def gather(x: np.ndarray, m: int) -> np.ndarray:
    """A view of the tiles of `x`, (i, j, tiles..., m + 2...), each m further than the last.

    Examples
    --------
    >>> gather(np.arange(6).reshape(1, 1, 6), 2).tolist()
    [[[[0, 1, 2, 3], [2, 3, 4, 5]]]]
    """
    n = m + TAPS - 1
    counts = [(size - TAPS + 1) // m for size in x.shape[2:]]
    steps = x.strides[2:]
    shape = (*x.shape[:2], *counts, *(n,) * len(counts))
    return as_strided(x, shape, (*x.strides[:2], *(m * s for s in steps), *steps), writeable=False)


def _in_front(matrix: np.ndarray, a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Multiply `axes` of `a` by `matrix`, one after the other; the results stand in front, in their order."""
    for done, axis in enumerate(reversed(axes)):
        a = np.tensordot(matrix, a, (1, axis + done))
    return a
