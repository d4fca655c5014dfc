"""`opencl-im2col`: the patch matrix written out, a chunk at a time, and one matrix product a sample and group.

The lecture's second view: the data become a matrix whose rows are channels and taps and whose columns are the
outputs, and the filters as they are given multiply it. A transposed convolution is the same for each residue of its
outputs modulo the stride: each has taps of its own, and none of its matrix is zeros in between. Sums that are rounded
to float16 at each step are computed by the kernels of `opencl-naive`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from backends.opencl import launch, naive, runtime
from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype

#: How the product is computed: vectors and caches, or tiles in local memory.
VARIANTS = ("vectors", "local")
#: Bytes of a vector register that the tiles of a processor are made for; a narrower one takes two for each.
VECTOR_BYTES = 64
#: Bytes of the patch matrix at a time. A processor multiplies it while its cache holds it; a GPU needs enough for
#: all of its units at once.
CHUNK_BYTES = {"vectors": 1 << 20, "local": 32 << 20}
#: Rows of a chunk on a processor: the filters of a block then stay in its nearest cache.
CHUNK_ROWS = 1024
DEPTH = 16


@dataclass(frozen=True)
class Tile:
    """Build options of gemm.cl.

    Attributes
    ----------
    rows, columns : int
        Filters, and vectors of outputs, of a work item.
    width : int
        Elements of a vector; 1 with local memory.
    items : tuple of int
        Work items of a group: along the filters, along the outputs.
    """

    rows: int
    columns: int
    width: int
    items: tuple[int, int] = (1, 1)

    @property
    def local(self) -> bool:
        """Whether the tiles are staged in local memory."""
        return self.items != (1, 1)

    @property
    def panel(self) -> int:
        """Outputs of a group."""
        return self.columns * self.width * self.items[1]

    @property
    def block(self) -> int:
        """Filters of a group."""
        return self.rows * self.items[0]

    def options(self) -> tuple[str, ...]:
        """Of the build."""
        found = (f"-DROWS={self.rows}", f"-DCOLUMNS={self.columns}", f"-DWIDTH={self.width}")
        local = ("-DLOCAL_TILES", f"-DITEMS_M={self.items[0]}", f"-DITEMS_N={self.items[1]}", f"-DDEPTH={DEPTH}")
        return (*found, *local) if self.local else found


@dataclass(frozen=True)
class Part:
    """The outputs that share their taps: all of a convolution, one residue of a transposed one.

    Attributes
    ----------
    taps : ndarray of int32, (taps, 4)
        Offsets in the input by axis, and the place in the filter, in the order of the matrix's rows.
    stride : tuple of int
        Input elements from one output to the next, an axis.
    size : tuple of int
        Outputs an axis.
    first, step : tuple of int
        The first of them, and the distance to the next, an axis of the whole output.
    """

    taps: np.ndarray
    stride: tuple[int, ...]
    size: tuple[int, ...]
    first: tuple[int, ...] = (0, 0, 0)
    step: tuple[int, ...] = (1, 1, 1)


@dataclass(frozen=True)
class Chunks:
    """What is made and multiplied at a time, and how much there is.

    Attributes
    ----------
    matrices, panels, channels : tuple of int
        Of a chunk at most, and in all.
    bytes : int
        Of a chunk at most.
    """

    matrices: tuple[int, int]
    panels: tuple[int, int]
    channels: tuple[int, int]
    bytes: int

    def __iter__(self) -> Iterator[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
        """First and number of matrices, panels, channels; channels change fastest."""
        return product(*(ranges(*axis) for axis in (self.matrices, self.panels, self.channels)))  # type: ignore[return-value]


def ranges(most: int, whole: int) -> list[tuple[int, int]]:
    """`whole` in as few ranges of about equal length, no more than `most`, as it takes: (first, length).

    Examples
    --------
    >>> ranges(4, 9)
    [(0, 3), (3, 3), (6, 3)]
    """
    step = equal(most, whole)
    return [(at, min(step, whole - at)) for at in range(0, whole, step)]


def equal(most: int, whole: int) -> int:
    """The longest of the ranges."""
    return -(-whole // -(-whole // most)) if whole else 1


class OpenCLIm2col:
    """The backend object; see the contract in `harness.backend`.

    Parameters
    ----------
    name : str
    variant : str, optional
        One of `VARIANTS`; the one made for the device if not given.
    chunk_bytes : int, optional
        Of the patch matrix at a time; `CHUNK_BYTES` if not given.
    """

    def __init__(self, name: str = "opencl-im2col", variant: str | None = None, chunk_bytes: int | None = None) -> None:
        self.info = BackendInfo(
            name,
            "OpenCL, patch matrix in chunks and one tiled matrix product a sample and group",
            Limits(("conv", "conv_transpose"), naive.TYPES, padding_modes=tuple(naive.MODES)),
            extra="opencl",
            version="1",
            layouts=LAYOUTS,
        )
        self.variant, self.chunk_bytes = variant, chunk_bytes
        self._naive = naive.OpenCLNaive()
        self._runtime = self._naive.runtime

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self._runtime.probe()

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The larger variant's chunk and the filters in order, beside what `opencl-naive` takes."""
        most = self._naive.workspace_bytes(spec)
        if spec.acc_dtype == "f16":
            return most
        found = parts(spec)
        tables = sum(part.taps.nbytes + 4096 for part in found)
        filters = prod(spec.w_shape or ()) * dtype(launch.WORK[spec.acc_dtype]).itemsize
        chunk = max((most_bytes(spec, part, tile_for(spec, v), self._budget(v)) for part in found for v in VARIANTS), default=0)
        return most + tables + chunk + (filters if spec.op == "conv_transpose" else 0)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the kernels, plan the chunks, allocate the largest."""
        handle = launch.handle_of(self._runtime, self.info.name, device)
        if spec.acc_dtype == "f16":
            return self._naive.prepare(spec, device)
        variant = self.variant or ("vectors" if runtime.is_processor(handle) else "local")
        tile = tile_for(spec, variant, handle.max_work_group_size)
        budget = min(self._budget(variant), handle.max_mem_alloc_size)
        found = parts(spec) if spec.batch else []
        smallest = (max((len(part.taps) for part in found), default=0), tile.panel)
        if reason := launch.why_not(spec, handle, {"one channel's panel of the patch matrix": smallest}):
            raise Unsupported(reason)
        return _Im2col(spec, device, self._runtime, tile, [(part, chunks(spec, part, tile, budget, variant)) for part in found])

    def _budget(self, variant: str) -> int:
        return CHUNK_BYTES[variant] if self.chunk_bytes is None else self.chunk_bytes


backend = OpenCLIm2col()
#: For checks of the kernels that GPUs run, on devices that are none.
backend_local = OpenCLIm2col("opencl-im2col-local", "local")


class _Im2col(launch.Launches):
    """For each chunk: its matrix, its product."""

    def __init__(
        self, spec: ConvSpec, device: str, run_time: runtime.Runtime, tile: Tile, planned: list[tuple[Part, Chunks]]
    ) -> None:
        super().__init__(spec, device, run_time)
        self.tile = tile
        matrix = self.scratch(max((c.bytes for _, c in planned), default=0), 1)
        for part, found in planned:
            taps = self.constant(part.taps if len(part.taps) else np.zeros((1, 4), np.int32))
            filters = self._filters(part, taps) if spec.op == "conv_transpose" else None
            patches, multiplied = self.constant(pack_patches(spec, part)), self.constant(pack_product(spec, part))
            for chunk in found:
                if len(part.taps):
                    self._patches(chunk, len(part.taps), patches, taps, matrix)
                self._product(chunk, len(part.taps), multiplied, filters, matrix)

    def _filters(self, part: Part, taps: Any) -> Any:
        """The buffer of the part's filters as a matrix: those of a transposed convolution stand in the order of its inputs."""
        spec = self.spec
        channels, filters = spec.in_channels // spec.groups, spec.out_channels // spec.groups
        out = self.scratch(spec.out_channels * channels * len(part.taps))
        numbers = (spec.groups, channels, filters, len(part.taps), prod(spec.kernel_size))
        kernel = self.kernel(("vectors.cl", "im2col.cl"), "filters", self._panel, taps, None, out, *map(np.int32, numbers))
        self._add("pack", kernel, spec.out_channels, {"w": 1})
        return out

    def _patches(self, chunk: tuple[tuple[int, int], ...], taps: int, fields: Any, offsets: Any, matrix: Any) -> None:
        firsts, counts = zip(*chunk, strict=True)
        numbers = map(np.int32, (*firsts, *counts))
        kernel = self.kernel(("vectors.cl", "im2col.cl"), "im2col", self._panel, fields, offsets, None, matrix, *numbers)
        self._add("pack", kernel, prod(counts) * (taps * self.tile.panel if self.tile.local else 1), {"x": 2})

    def _product(self, chunk: tuple[tuple[int, int], ...], taps: int, fields: Any, filters: Any, matrix: Any) -> None:
        (first_matrix, matrices), (first_panel, panels), (first_channel, channels) = chunk
        numbers = map(np.int32, (first_matrix, first_panel, first_channel * taps, panels, channels * taps))
        kernel = self.kernel(
            ("vectors.cl", "gemm.cl"), "gemm", self.tile.options(), fields, filters, matrix, None, None, *numbers
        )
        blocks = -(-(self.spec.out_channels // self.spec.groups) // self.tile.block)
        items = prod(self.tile.items)
        operands = {"b": 3, "y": 4} | ({} if filters else {"w": 1})
        self.steps.append(launch.Step("kernel", kernel, (matrices * blocks * panels * items,), (items,), operands))

    @property
    def _panel(self) -> tuple[str, ...]:
        found = (f"-DPANEL={self.tile.panel}", f"-DWIDTH={self.tile.width}")
        return found if self.tile.local else (*found, "-DBY_CHANNEL")

    def _add(self, phase: str, kernel: Any, items: int, operands: dict[str, int]) -> None:
        local = self.runtime.local_size(self.device, kernel) if self.tile.local else 1
        self.steps.append(launch.Step(phase, kernel, (-(-items // local) * local,), (local,), operands))


def tile_for(spec: ConvSpec, variant: str, most_items: int = 1 << 30) -> Tile:
    """The tile of a group of filters, without tuning; `most_items` is what the device takes as a work group."""
    filters = spec.out_channels // spec.groups
    if variant == "vectors":
        width = VECTOR_BYTES // dtype(launch.WORK[spec.acc_dtype]).itemsize
        rows = equal(8, filters)
        return Tile(rows, 8 // rows if rows < 4 else 3, width)
    rows = min(8, filters)
    along = min(8, -(-filters // rows))
    others = 16 if along > 4 else 32
    while along * others > most_items and others > 2:
        others //= 2
    return Tile(rows, 4, 1, (along, others))


def chunks(spec: ConvSpec, part: Part, tile: Tile, budget: int, variant: str) -> Chunks:
    """Chunks of no more than `budget` bytes, but of one channel's panel at least.

    Examples
    --------
    >>> spec = ConvSpec("conv", (1000,), (3,), in_channels=4, out_channels=8)
    >>> found = chunks(spec, parts(spec)[0], Tile(8, 3, 16), 10_000, "vectors")
    >>> found.panels, found.channels, len(list(found))
    ((4, 21), (4, 4), 6)
    """
    matrices, channels = spec.batch * spec.groups, spec.in_channels // spec.groups
    panels = -(-prod(part.size) // tile.panel)
    piece = len(part.taps) * tile.panel * dtype(launch.WORK[spec.acc_dtype]).itemsize
    if not piece:  # holes of a transposed convolution: nothing is made, the bias is written
        return Chunks((matrices, matrices), (panels, panels), (channels, channels), 0)
    rows = CHUNK_ROWS if variant == "vectors" else len(part.taps) * channels
    deep = equal(max(1, min(rows // len(part.taps), budget // piece)), channels)
    wide = equal(max(1, budget // (piece * deep)), panels)
    many = equal(max(1, budget // (piece * deep * panels)), matrices) if wide == panels else 1
    return Chunks((many, matrices), (wide, panels), (deep, channels), piece * deep * wide * many)


def most_bytes(spec: ConvSpec, part: Part, tile: Tile, budget: int) -> int:
    """What no chunk exceeds, be its tile that or a narrower one."""
    column = len(part.taps) * dtype(launch.WORK[spec.acc_dtype]).itemsize
    whole = spec.batch * spec.in_channels * -(-prod(part.size) // tile.panel) * tile.panel * column
    return min(whole, max(budget, tile.panel * column))


def parts(spec: ConvSpec) -> list[Part]:
    """A convolution's one part, or a part for each residue of a transposed one that has outputs.

    Examples
    --------
    >>> [part.taps[:, 2:].tolist() for part in parts(ConvSpec("conv_transpose", (5,), (3,), stride=(2,)))]
    [[[0, 0], [-1, 2]], [[0, 1]]]
    """
    lifted = spec.lifted()
    axes = list(zip(lifted.kernel_size, lifted.stride, lifted.dilation, lifted.out_size, lifted.padding, strict=True))
    if spec.op == "conv":
        reached = [[(k, k * d - lo) for k in range(taps)] for taps, _, d, _, (lo, _) in axes]
        found = [Part(_numbered(lifted, reached), lifted.stride, lifted.out_size)]
    else:
        found = []
        for residue in product(*map(range, lifted.stride)):
            # tap k adds x[i] to output o where i s + k d - low = o = q s + residue: a shift of i against q, or none
            reached = [
                [(k, (r + lo - k * d) // s) for k in range(taps) if (r + lo - k * d) % s == 0]
                for r, (taps, s, d, _, (lo, _)) in zip(residue, axes, strict=True)
            ]
            size = tuple(max(0, -(-(out - r) // s)) for r, (_, s, _, out, _) in zip(residue, axes, strict=True))
            found.append(Part(_numbered(lifted, reached), (1, 1, 1), size, residue, lifted.stride))
    return [part for part in found if prod(part.size)]


def _numbered(spec: ConvSpec, reached: list[list[tuple[int, int]]]) -> np.ndarray:
    """Offsets and place in the filter of the taps, in the order of the places: a flipped filter is read back to front."""
    found = []
    for tap in product(*reached):
        at = 0
        for (k, _), taps in zip(tap, spec.kernel_size, strict=True):
            at = at * taps + k
        found.append((*(offset for _, offset in tap), prod(spec.kernel_size) - 1 - at if spec.flip else at))
    return np.array(sorted(found, key=lambda row: row[-1]), np.int32).reshape(-1, 4)


def pack_patches(spec: ConvSpec, part: Part) -> np.ndarray:
    """The `Patches` of im2col.cl, as int64 in the order of its fields."""
    channels = spec.in_channels // spec.groups
    numbers = (naive.MODES[spec.padding_mode], len(part.taps), channels, spec.batch * spec.groups)
    return np.array([*numbers, *spec.lifted().in_size, *part.stride, *part.size], np.int64)


def pack_product(spec: ConvSpec, part: Part) -> np.ndarray:
    """The `Product` of gemm.cl, as int64 in the order of its fields."""
    filters, rows = spec.out_channels // spec.groups, spec.in_channels // spec.groups * len(part.taps)
    return np.array(
        [spec.groups, filters, rows, spec.bias, *part.size, *part.first, *part.step, *spec.lifted().out_size], np.int64
    )
