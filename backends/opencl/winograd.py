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
from backends.opencl.direct import limits, pack_step
from backends.opencl.tiles import VECTOR_BYTES, chunk_of_tiles, default_tile
from backends.opencl.windows import Stored
from backends.winograd_transforms import Matrix, transforms
from harness.backend import LAYOUTS, AlgorithmClass, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype

TAPS = 3
TYPES = ("f32", "f64", "f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32")
#: Bytes of a chunk's tiles and products, before and after they are multiplied: what the caches of a processor hold.
CHUNK_BYTES = 2 << 20
#: Tiles of a row up to which tiles are gathered from the input as it is given.
MOST_GATHERED = 8


class OpenCLWinograd:
    """A backend of F(m x m, 3 x 3); see the contract in `harness.backend`."""

    def __init__(self, name: str, m: int, points: tuple[float, ...]) -> None:
        self.m = m
        self.prelude = prelude(*transforms(m, TAPS, points))
        self.info = BackendInfo(
            name,
            f"OpenCL, Winograd's F({m}x{m},3x3) on tiles, the products in registers",
            Limits(
                ("conv",),
                TYPES,
                ranks=(2,),
                padding_modes=tuple(naive.MODES),
                dilation=False,
                groups=False,
                least_taps=TAPS,
                most_taps=TAPS,
                most_stride=1,
            ),
            AlgorithmClass("winograd", m, TAPS, points),
            extra="opencl",
            version="1",
            taint="tile",
            layouts=LAYOUTS,
        )
        self.runtime = runtime.Runtime()

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self.runtime.probe()

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The stored input, a chunk's stages, and what `opencl-naive` takes."""
        item = dtype(launch.WORK[spec.acc_dtype]).itemsize
        stages = max(sum(plan(spec, self.m, width).elements(spec)) for width in (8, 16, 64))  # of processors, of GPUs
        return naive.OpenCLNaive().workspace_bytes(spec) + stages * item

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the kernels, choose the chunks, allocate a chunk's stages."""
        handle = launch.handle_of(self.runtime, self.info.name, device)
        if reason := launch.why_not(spec, handle):
            raise Unsupported(reason)
        return _Winograd(spec, device, self.runtime, self)


@dataclass(frozen=True)
class Plan:
    """Tiles and chunks of one specification.

    Attributes
    ----------
    m : int
        Outputs of a tile, an axis.
    stored : Stored or None
        The input, by the residues of m; None where tiles are gathered from the input as it is given.
    tiles, pitch : int
        All tiles, counted in the pitch of the stored rows, and that.
    chunk_tiles, chunk_filters : int
        Of a chunk; one of the two is all of them.
    """

    m: int
    stored: Stored | None
    tiles: int
    pitch: int
    chunk_tiles: int
    chunk_filters: int

    def elements(self, spec: ConvSpec) -> tuple[int, int, int, int]:
        """Of the stored input, of a chunk's tiles, filters and products."""
        n = (self.m + TAPS - 1) ** 2
        return (
            prod(spec.x_shape[:2]) * self.stored.channel + self.chunk_tiles + 64 if self.stored else 0,
            n * apart(spec.in_channels * self.chunk_tiles),
            n * apart(spec.in_channels * self.chunk_filters),
            n * apart(self.chunk_filters * self.chunk_tiles),
        )


def apart(elements: int) -> int:
    """So many elements and some more: arrays at an even number of cache lines from each other share a cache's sets."""
    return -(-elements // 32) * 32 + 16


def plan(spec: ConvSpec, m: int, width: int) -> Plan:
    """Tiles, and chunks of them or of filters by what is read again for each: the tiles, or the filters."""
    high, wide = (-(-o // m) for o in spec.out_size)
    low = tuple(-lo for lo, _ in spec.padding)
    # an image of few tiles a row is not stored: one too many a row would cost too much
    stored = None if wide <= MOST_GATHERED else Stored(
        (1, m, m), ((0,), tuple(range(m)), tuple(range(m))), (0, *low), (1, high + 1, wide + 1)  # type: ignore[arg-type]
    )  # fmt: skip
    pitch = stored.size[2] if stored else wide
    tiles = (high - 1) * pitch + wide
    whole = -(-tiles // width) * width
    n = (m + TAPS - 1) ** 2 * dtype(launch.WORK[spec.acc_dtype]).itemsize
    if stored and tiles >= 2 * spec.out_channels:
        fits = CHUNK_BYTES // (n * (spec.in_channels + spec.out_channels))
        return Plan(m, stored, tiles, pitch, min(whole, max(3, fits // (3 * width) * 3) * width), spec.out_channels)
    again = n * spec.in_channels * whole > CHUNK_BYTES  # tiles that no cache keeps are read again for each chunk
    fits = CHUNK_BYTES // (n * (spec.in_channels + whole)) // 16 * 16
    return Plan(m, stored, tiles, pitch, whole, min(spec.out_channels, max(128 if again else 64, fits)))


class _Winograd(launch.Launches):
    """The stored input, then for each chunk: tiles or filters transformed, multiplied, transformed back."""

    def __init__(self, spec: ConvSpec, device: str, run_time: runtime.Runtime, of: OpenCLWinograd) -> None:
        super().__init__(spec, device, run_time)
        processor = runtime.is_processor(self.handle)
        self._width = VECTOR_BYTES // self.work.itemsize if processor else 1
        self._processor = processor
        self._built = (f"-DM={of.m}", f"-DWIDTH={self._width}")
        self._prelude = of.prelude
        self._made: dict[tuple[str, ...], Any] = {}
        self._plane: Any = None
        self.plan = p = plan(spec, of.m, self._width if processor else 64)
        x, v, u, m = (self.scratch(n) for n in p.elements(spec))
        self._pixels = self.constant(np.zeros((1, 2), np.int32))
        if p.stored:
            self.steps.append(pack_step(self, p.stored, x, self._width))
        filters = [(at, min(p.chunk_filters, spec.out_channels - at)) for at in range(0, spec.out_channels, p.chunk_filters)]
        if len(filters) == 1:
            self._filter(u, *filters[0])
        for sample in range(spec.batch):
            for first in range(0, p.tiles, p.chunk_tiles):
                vectors = -(-min(p.chunk_tiles, p.tiles - first) // self._width)
                self._input(p.stored, x, v, sample, first, vectors)
                for at, count in filters:
                    if len(filters) > 1:
                        self._filter(u, at, count)
                    self._products(u, v, m, count, vectors)
                    self._output(m, sample, first, vectors, at, count)
        self.settle()

    def _kernel(self, files: tuple[str, ...], name: str, built: Sequence[str], arguments: Sequence[Any]) -> Any:
        """One for all chunks."""
        key = (name, *built)
        if key not in self._made:
            self._made[key] = self.kernel(files, name, built, *arguments, prelude=self._prelude)
        return self._made[key]

    def _transform(self, phase: str, name: str, items: int, operands: dict[str, int], *arguments: Any, local: int = 0) -> None:
        kernel = self._kernel(("vectors.cl", "winograd.cl"), name, self._built, arguments)
        local = local or (1 if self._width > 1 else self.runtime.local_size(self.device, kernel))
        self.share(launch.Step(phase, kernel, (-(-items // local) * local,), (local,), operands), arguments)

    def _input(self, form: Stored | None, x: Any, v: Any, sample: int, first: int, vectors: int) -> None:
        spec, channels = self.spec, self.spec.in_channels
        if form:
            sizes = map(np.int32, (channels, form.channel, form.size[2], form.size[1] * form.size[2], vectors))
            start = np.int64(sample * channels * form.channel + first)
            self._transform("kernel", "wino_input", channels * vectors, {}, x, v, *sizes, start)
            return
        m, (high, wide) = self.plan.m, (-(-o // self.plan.m) for o in spec.out_size)
        padding = (spec.padding[0][0], spec.padding[1][0], *limits(spec)[1:], naive.MODES[spec.padding_mode])
        sizes = map(np.int32, (channels, *spec.in_size, *padding, high, wide, vectors))
        start = np.int64(sample * prod(spec.x_shape[1:]))
        self._plane = self._plane or self.local((high * m + 2) * (wide * m + 2) * self.work.itemsize)
        self._transform("kernel", "wino_gather", channels, {"x": 0}, None, v, self._plane, *sizes, start, local=1)

    def _filter(self, u: Any, first: int, count: int) -> None:
        numbers = map(np.int32, (first, count, self.spec.in_channels, self.spec.flip))
        self._transform("pack", "wino_filter", count, {"w": 0}, None, u, *numbers)

    def _products(self, u: Any, v: Any, m: Any, count: int, vectors: int) -> None:
        """The blocked kernel: a group a frequency, a pixel a tile."""
        n, channels, pixels = (self.plan.m + TAPS - 1) ** 2, self.spec.in_channels, vectors * self._width
        tile = default_tile(pixels, count, self._processor, self.work.itemsize)
        span = tile.vectors * tile.width * tile.items
        tiles, blocks = -(-pixels // span), -(-count // tile.block)
        chunk = min(tiles, chunk_of_tiles(channels * self.work.itemsize, span, 0))
        fields = [
            *(1, n, channels, count, 1, pixels, tiles, blocks),
            *(chunk, 0, pixels, channels, 1, apart(channels * count), 1, pixels),
            *(apart(channels * pixels), apart(count * pixels), 0, 1, 1, pixels, 0, 0, 0, 1, 1, 1, 1, 1, pixels),
        ]
        arguments = (self.constant(np.array(fields, np.int64)), self._pixels, v, u, v, m)
        kernel = self._kernel(("vectors.cl", "blocked.cl"), "blocked", tile.options(1), arguments)
        self.share(launch.Step("kernel", kernel, (tiles * blocks * tile.items, n, 1), (tile.items, 1, 1)), arguments)

    def _output(self, m: Any, sample: int, first: int, vectors: int, channel: int, count: int) -> None:
        spec = self.spec
        numbers = map(np.int32, (count, vectors, first, self.plan.pitch, channel, spec.bias, *spec.out_size))
        start = np.int64(sample * prod(spec.out_shape[1:]))
        self._transform("kernel", "wino_output", count * vectors, {"b": 1, "y": 2}, m, None, None, *numbers, start)


def prelude(at: Matrix, g: Matrix, bt: Matrix) -> str:
    r"""The macros B_T, G_ and A_T of winograd.cl: straight-line products with the matrices.

    Examples
    --------
    >>> print(prelude(*transforms(2, 3, (0, 1, -1))).splitlines()[1].strip(" \\"))
    (o)[(p) + 0 * (s)] = (a)[(i) + 0 * (t)] - (a)[(i) + 2 * (t)];
    """
    return "\n".join(_macro(name, m) for name, m in (("B_T", bt), ("G_", g), ("A_T", at))) + "\n" + every_ninth()


def every_ninth() -> str:
    """The macro EVERY9(v, p): v[t], t = 0 to 8, holds elements t, 9 + t, 18 + t, ... of 144 in a row.

    Nine loads and shuffles of two vectors, where element by element would take 144 loads and as many insertions.
    """
    lines = ["#define EVERY9(v, p)", *(f"const VECTOR a{k} = LOAD((p) + {16 * k});" for k in range(9))]
    for t in range(9):
        places = [divmod(9 * lane + t, 16) for lane in range(16)]
        parts = [(k, k + 1) for k in range(0, 8, 2)] + [(8, 8)]
        names = []
        for low, high in parts:
            lanes = [i if k == low else 16 + i if k == high else -1 for k, i in places]
            names.append(f"b{t}_{low}")
            lines.append(f"const VECTOR {names[-1]} = {_shuffle(f'a{low}', f'a{high}', lanes)};")
        whole = names[0]
        for n, (low, _) in enumerate(parts[1:], 1):
            lanes = [16 + lane if k >= low else lane if k < low else -1 for lane, (k, _) in enumerate(places)]
            lines.append(f"const VECTOR c{t}_{n} = {_shuffle(whole, names[n], lanes)};")
            whole = f"c{t}_{n}"
        lines.append(f"(v)[{t}] = {whole};")
    return " \\\n    ".join(lines) + "\n"


def _shuffle(a: str, b: str, lanes: Sequence[int]) -> str:
    return f"__builtin_shufflevector({a}, {b}, {', '.join(map(str, lanes))})"


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
