"""`opencl-direct`: sums of products in registers, without a matrix of patches.

The input is stored padded and by the residues of the stride (or not at all, where it is that already), so that each
tap is one offset for all outputs; a work item keeps a tile of some output channels x some vectors of outputs in
registers and goes through channels and taps once. Pools, and sums that are rounded to float16 at each step,
are computed by the kernels of `opencl-naive`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from backends.opencl import launch, naive, runtime
from backends.opencl.windows import Part, Windows, windows
from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype


@dataclass(frozen=True)
class Tile:
    """Build options of blocked.cl.

    Attributes
    ----------
    block : int
        Output channels of an item.
    vectors : int
        Vectors of an item.
    width : int
        Elements of a vector; 1 on GPUs.
    items : int
        Work items of a group; 1 on processors.
    """

    block: int
    vectors: int
    width: int
    items: int

    def options(self, taps: int = 0) -> tuple[str, ...]:
        """Of the build; `taps` is how many are unrolled, 0 for a loop."""
        found = f"-DBLOCK={self.block} -DVECTORS={self.vectors} -DWIDTH={self.width} -DITEMS={self.items}".split()
        return (*found, f"-DTAPS={taps}") if taps else tuple(found)


#: Bytes of a vector register that the tiles of a processor are made for; a narrower one takes two for each.
VECTOR_BYTES = 64
UNROLL = 1
CHUNK_BYTES = 192 << 10


class OpenCLDirect:
    """The backend object; see the contract in `harness.backend`."""

    info = BackendInfo(
        "opencl-direct",
        "OpenCL, register-blocked sums over shifted copies, no matrix of patches",
        Limits(naive.OPS, naive.TYPES, padding_modes=tuple(naive.MODES)),
        extra="opencl",
        version="2",
        nan_max_pool="propagate",
        layouts=LAYOUTS,
    )

    def __init__(self) -> None:
        self._naive = naive.OpenCLNaive()
        self._runtime = self._naive.runtime

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self._runtime.probe()

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The stored input beside what `opencl-naive` takes."""
        most = self._naive.workspace_bytes(spec)
        if not blocks(spec):
            return most
        plan = windows(spec)
        taps = sum(part.taps.nbytes for part in plan.parts)
        item = dtype(launch.WORK[spec.acc_dtype]).itemsize
        return most + taps + (prod(spec.x_shape[:2]) * plan.stored.channel + VECTOR_BYTES) * item + 4096 * len(plan.parts)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the kernels, plan the shifts, allocate the stored input."""
        handle = launch.handle_of(self._runtime, self.info.name, device)
        if not blocks(spec):
            return self._naive.prepare(spec, device)
        plan = windows(spec)
        stored = (*spec.x_shape[:2], plan.stored.channel)
        if reason := launch.why_not(spec, handle, {"the stored input": stored}):
            raise Unsupported(reason)
        return _Direct(spec, device, self._runtime, plan)


backend = OpenCLDirect()


def blocks(spec: ConvSpec) -> bool:
    """Whether the blocked kernel computes `spec`: sums that are not rounded to float16 as they grow."""
    return not spec.is_pool and spec.acc_dtype != "f16"


class _Direct(launch.Launches):
    """The stored input's kernel, and a blocked one a part."""

    def __init__(self, spec: ConvSpec, device: str, run_time: runtime.Runtime, plan: Windows) -> None:
        super().__init__(spec, device, run_time)
        self.processor = runtime.is_processor(self.handle)
        self.plan = plan
        # vectors are loaded whole: a channel that is shorter than one has others behind it, the last one room
        tile = default_tile(spec, plan, self.processor, self.work.itemsize)
        stored = None
        if not plan.dense or min(p.pixels(plan.stored) for p in plan.parts) < tile.width:
            stored = self.scratch(prod(spec.x_shape[:2]) * plan.stored.channel + tile.width)
            self.steps.append(pack_step(self, plan, stored))
        for part in plan.parts:
            self.steps.append(self._blocked(part, tile, stored))

    def _blocked(self, part: Part, tile: Tile, stored: Any) -> launch.Step:
        spec = self.spec
        assert spec.w_shape is not None
        pixels = part.pixels(self.plan.stored)
        tiles = -(-pixels // (tile.vectors * tile.width * tile.items))
        filters = spec.out_channels // spec.groups
        count = -(-filters // tile.block)
        span = tile.vectors * tile.width * tile.items
        reach = int(part.taps[:, 0].max(initial=0))
        chunk = chunk_of_tiles(spec.in_channels // spec.groups * self.work.itemsize, span, reach)
        fields = pack_plan(spec, self.plan, part, tiles, count, min(chunk, tiles))
        taps = part.taps if len(part.taps) else np.zeros((1, 2), np.int32)
        unrolled = len(part.taps) if len(part.taps) <= UNROLL else 0
        kernel = self.kernel(
            ("vectors.cl", "blocked.cl"), "blocked", tile.options(unrolled),
            self.constant(fields), self.constant(taps), stored,
        )  # fmt: skip
        operands = {"w": 3, "b": 4, "y": 5} | ({} if stored else {"x": 2})
        groups = tiles * count * spec.groups * spec.batch
        return launch.Step("kernel", kernel, (groups * tile.items,), (tile.items,), operands)


def pack_step(of: launch.Launches, plan: Windows, stored: Any) -> launch.Step:
    """The launch that fills `stored` from x."""
    spec, form = of.spec, plan.stored
    lifted = spec.lifted()
    channels = prod(spec.x_shape[:2])
    counts = [len(p) for p in form.phases]
    fields = np.array(
        [channels, naive.MODES[spec.padding_mode], *lifted.in_size, *form.size, *form.first, *form.stride, *counts], np.int64
    )
    residues = np.array([r for phases in form.phases for r in phases], np.int32)
    processor = runtime.is_processor(of.handle)
    kernel = of.kernel(
        ("pack.cl",), "pack", ("-DBY_PLANE",) if processor else (), of.constant(fields), of.constant(residues), None, stored
    )
    size = channels * form.channel // (form.size[1] * form.size[2] if processor else 1)
    local = 1 if processor else of.runtime.local_size(of.device, kernel)
    return launch.Step("pack", kernel, (-(-size // local) * local,), (local,), {"x": 2})


def default_tile(spec: ConvSpec, plan: Windows, processor: bool, itemsize: int) -> Tile:
    """The tile without tuning."""
    filters = spec.out_channels // spec.groups
    if not processor:
        return Tile(min(8, filters), 4, 1, 64)
    width = VECTOR_BYTES // itemsize
    if filters < 4:
        return Tile(filters, 8 // filters, width, 1)
    return Tile(min(8, filters), 3, width, 1)


def chunk_of_tiles(bytes_a_place: int, span: int, reach: int) -> int:
    """Tiles of `span` outputs whose input, `bytes_a_place` an output and `reach` beyond, fits `CHUNK_BYTES`."""
    return max(1, (CHUNK_BYTES // bytes_a_place - reach) // span)


def pack_plan(spec: ConvSpec, plan: Windows, part: Part, tiles: int, blocks: int, chunk: int) -> np.ndarray:
    """The `Plan` of blocked.cl, as int64 in the order of its fields."""
    lifted = spec.lifted()
    assert spec.w_shape is not None
    taps, channels, filters = prod(spec.kernel_size), spec.in_channels // spec.groups, spec.out_channels // spec.groups
    transposed = spec.op == "conv_transpose"
    w_out, w_in = (taps, filters * taps) if transposed else (channels * taps, taps)
    weights = prod(spec.w_shape)
    return np.array(
        [
            *(spec.batch, spec.groups, channels, filters),
            *(len(part.taps), part.pixels(plan.stored), tiles, blocks),
            *(chunk, spec.bias, plan.stored.channel, w_out),
            *(w_in, weights // spec.groups, *plan.stored.size[1:]),
            *(*part.size, *part.first, *part.step, *lifted.out_size),
        ],
        np.int64,
    )
