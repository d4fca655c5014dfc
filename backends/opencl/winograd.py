"""`opencl-winograd` and `opencl-winograd-f23`: F(4x4,3x3) and F(2x2,3x3), the products in registers.

Three transforms about the kernel of `opencl-direct`, which multiplies each frequency as a group of its own. Tiles or
filters are taken in chunks, so that what the transforms write is still in the cache when the products read it.

References
----------
A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from backends.opencl import launch, naive, runtime
from backends.opencl.direct import VECTOR_BYTES, chunk_of_tiles, default_tile, pack_step
from backends.opencl.windows import Stored
from backends.winograd_transforms import Matrix, transforms
from harness.backend import LAYOUTS, AlgorithmClass, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype

TAPS = 3
TYPES = ("f32", "f64", "f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32")
#: Bytes of a chunk's tiles and products, before and after they are multiplied: what the caches of a processor hold.
CHUNK_BYTES = 2 << 20
#: Tiles of a row up to which each is stored with all of its elements.
MOST_REPEATED = 8


def _rule(spec: ConvSpec) -> str | None:
    if any(k != TAPS for k in spec.kernel_size):
        return f"its kernels have {TAPS} taps an axis"
    if any(s != 1 for s in spec.stride):
        return "its stride is 1: outputs further apart share too little of a tile"
    return None


class OpenCLWinograd:
    """A backend of F(m x m, 3 x 3); see the contract in `harness.backend`."""

    def __init__(self, name: str, m: int, points: tuple[float, ...]) -> None:
        self.m = m
        self.prelude = prelude(*transforms(m, TAPS, points))
        self.info = BackendInfo(
            name,
            f"OpenCL, Winograd's F({m}x{m},3x3) on tiles, the products in registers",
            Limits(("conv",), TYPES, ranks=(2,), padding_modes=tuple(naive.MODES), dilation=False, groups=False, rule=_rule),
            AlgorithmClass("winograd", m, TAPS, points),
            extra="opencl",
            version="1",
            taint="tile",
            layouts=LAYOUTS,
        )
        self._runtime = runtime.Runtime()

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self._runtime.probe()

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The stored input, a chunk's stages, and what `opencl-naive` takes."""
        item = dtype(launch.WORK[spec.acc_dtype]).itemsize
        return naive.OpenCLNaive().workspace_bytes(spec) + sum(plan(spec, self.m, 16).elements(spec)) * item

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the kernels, choose the chunks, allocate a chunk's stages."""
        handle = launch.handle_of(self._runtime, self.info.name, device)
        if reason := launch.why_not(spec, handle):
            raise Unsupported(reason)
        return _Winograd(spec, device, self._runtime, self)


@dataclass(frozen=True)
class Plan:
    """Tiles and chunks of one specification.

    Attributes
    ----------
    m : int
        Outputs of a tile, an axis.
    stored : Stored
        The input, by the residues of m.
    tiles : int
        In the pitch of the stored rows, the last row without its one too many.
    chunk_tiles, chunk_filters : int
        Of a chunk; one of the two is all of them.
    """

    m: int
    stored: Stored
    tiles: int
    chunk_tiles: int
    chunk_filters: int

    def elements(self, spec: ConvSpec) -> tuple[int, int, int, int]:
        """Of the stored input, of a chunk's tiles, filters and products."""
        n = (self.m + TAPS - 1) ** 2
        return (
            prod(spec.x_shape[:2]) * self.stored.channel + self.chunk_tiles + 64,
            n * apart(spec.in_channels * self.chunk_tiles),
            n * apart(spec.in_channels * self.chunk_filters),
            n * apart(self.chunk_filters * self.chunk_tiles),
        )


def apart(elements: int) -> int:
    """So many elements and some more: arrays at an even number of cache lines from each other share a cache's sets."""
    return -(-elements // 32) * 32 + 16


def plan(spec: ConvSpec, m: int, width: int) -> Plan:
    """Tiles, and chunks of which tiles and products, or filters and products, fit `CHUNK_BYTES`."""
    high, wide = (-(-o // m) for o in spec.out_size)
    low = tuple(-lo for lo, _ in spec.padding)
    # the last elements of a tile are the first of the next: stored once, or twice where that would cost a tile in few
    shared = wide > MOST_REPEATED
    residues = tuple(range(m if shared else m + TAPS - 1))
    size = (1, high + shared, wide + shared)
    stored = Stored((1, m, m), ((0,), residues, residues), (0, *low), size)  # type: ignore[arg-type]
    tiles = (high - 1) * size[2] + wide
    whole = -(-tiles // width) * width
    n = (m + TAPS - 1) ** 2
    item = dtype(launch.WORK[spec.acc_dtype]).itemsize
    if tiles >= 2 * spec.out_channels:
        fits = CHUNK_BYTES // (n * (spec.in_channels + spec.out_channels) * item)
        return Plan(m, stored, tiles, min(whole, max(3, fits // (3 * width) * 3) * width), spec.out_channels)
    fits = CHUNK_BYTES // (n * (spec.in_channels + whole) * item)
    return Plan(m, stored, tiles, whole, min(spec.out_channels, max(16, fits // 16 * 16)))


class _Winograd(launch.Launches):
    """The stored input, then for each chunk: tiles or filters transformed, multiplied, transformed back."""

    def __init__(self, spec: ConvSpec, device: str, run_time: runtime.Runtime, of: OpenCLWinograd) -> None:
        super().__init__(spec, device, run_time)
        processor = runtime.is_processor(self.handle)
        self._width = VECTOR_BYTES // self.work.itemsize if processor else 1
        self._processor = processor
        self._built = (f"-DM={of.m}", f"-DWIDTH={self._width}")
        self._prelude = of.prelude
        self.plan = p = plan(spec, of.m, self._width if processor else 64)
        x, v, u, m = (self.scratch(n) for n in p.elements(spec))
        self._pixels = self.constant(np.zeros((1, 2), np.int32))
        self.steps.append(pack_step(self, p, x))
        filters = [(at, min(p.chunk_filters, spec.out_channels - at)) for at in range(0, spec.out_channels, p.chunk_filters)]
        if len(filters) == 1:
            self.steps.append(self._filter(u, *filters[0]))
        for sample in range(spec.batch):
            for first in range(0, p.tiles, p.chunk_tiles):
                vectors = -(-min(p.chunk_tiles, p.tiles - first) // self._width)
                self.steps.append(self._input(x, v, sample, first, vectors))
                for at, count in filters:
                    if len(filters) > 1:
                        self.steps.append(self._filter(u, at, count))
                    self.steps.append(self._products(u, v, m, count, vectors))
                    self.steps.append(self._output(m, sample, first, vectors, at, count))

    def _launch(self, phase: str, name: str, items: int, operands: dict[str, int], *arguments: Any) -> launch.Step:
        kernel = self.kernel(("vectors.cl", "winograd.cl"), name, self._built, *arguments, prelude=self._prelude)
        local = 1 if self._width > 1 else self.runtime.local_size(self.device, kernel)
        return launch.Step(phase, kernel, (-(-items // local) * local,), (local,), operands)

    def _input(self, x: Any, v: Any, sample: int, first: int, vectors: int) -> launch.Step:
        spec, form = self.spec, self.plan.stored
        start = sample * spec.in_channels * form.channel + first
        shared = len(form.phases[2]) == self.plan.m
        numbers = (spec.in_channels, form.channel, form.size[2], form.size[1] * form.size[2], start, vectors, shared)
        return self._launch("kernel", "wino_input", spec.in_channels * vectors, {}, x, v, *map(np.int32, numbers))

    def _filter(self, u: Any, first: int, count: int) -> launch.Step:
        numbers = (first, count, self.spec.in_channels, self.spec.flip)
        return self._launch("pack", "wino_filter", count, {"w": 0}, None, u, *map(np.int32, numbers))

    def _products(self, u: Any, v: Any, m: Any, count: int, vectors: int) -> launch.Step:
        """The blocked kernel: a group a frequency, a pixel a tile."""
        n, channels, pixels = (self.plan.m + TAPS - 1) ** 2, self.spec.in_channels, vectors * self._width
        tile = default_tile(pixels, count, self._processor, self.work.itemsize)
        tiles = -(-pixels // (tile.vectors * tile.width * tile.items))
        blocks = -(-count // tile.block)
        chunk = min(tiles, chunk_of_tiles(channels * self.work.itemsize, tile.vectors * tile.width * tile.items, 0))
        fields = [
            *(1, n, channels, count, 1, pixels, tiles, blocks, chunk, 0, pixels, channels, 1, apart(channels * count), 1, pixels),
            *(apart(channels * pixels), apart(count * pixels), 1, 1, pixels, 0, 0, 0, 1, 1, 1, 1, 1, pixels),
        ]
        kernel = self.kernel(
            ("vectors.cl", "blocked.cl"), "blocked", tile.options(1), self.constant(np.array(fields, np.int64)), self._pixels, v, u, v, m
        )
        return launch.Step("kernel", kernel, (tiles * blocks * tile.items, n, 1), (tile.items, 1, 1))

    def _output(self, m: Any, sample: int, first: int, vectors: int, channel: int, count: int) -> launch.Step:
        spec = self.spec
        numbers = (count, vectors, first, self.plan.stored.size[2], channel, spec.bias, *spec.out_size)
        offset = np.int64(sample * prod(spec.out_shape[1:]))
        return self._launch("kernel", "wino_output", count * vectors, {"b": 1, "y": 2}, m, None, None, *map(np.int32, numbers), offset)


def prelude(at: Matrix, g: Matrix, bt: Matrix) -> str:
    """The macros B_T, G_ and A_T of winograd.cl: straight-line products with the matrices.

    Examples
    --------
    >>> print(prelude(*transforms(2, 3, (0, 1, -1))).splitlines()[1].strip(" \\\\"))
    (o)[(p) + 0 * (s)] = (a)[(i) + 0 * (t)] - (a)[(i) + 2 * (t)];
    """
    return "\n".join(_macro(name, m) for name, m in (("B_T", bt), ("G_", g), ("A_T", at))) + "\n"


def _macro(name: str, matrix: Sequence[Sequence[Fraction]]) -> str:
    lines = [f"#define {name}(o, p, s, a, i, t)"]
    for row, values in enumerate(matrix):
        terms = " + ".join(_term(v, f"(a)[(i) + {k} * (t)]") for k, v in enumerate(values) if v)
        lines.append(f"(o)[(p) + {row} * (s)] = {terms.replace('+ -', '- ')};")
    return " \\\n    ".join(lines)


def _term(value: Fraction, name: str) -> str:
    sign = "-" if value < 0 else ""
    size = abs(value)
    return f"{sign}{name}" if size == 1 else f"{sign}((TYPE){size.numerator} / {size.denominator}) * {name}"


backend = OpenCLWinograd("opencl-winograd", 4, (0.0, 1.0, -1.0, 2.0, -2.0))
backend_f23 = OpenCLWinograd("opencl-winograd-f23", 2, (0.0, 1.0, -1.0))
