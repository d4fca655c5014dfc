"""`opencl-direct`: sums of products in registers, without a matrix of patches.

The input is stored padded and by the residues of the stride (or not at all, where it is that already), so that each
tap is one offset for all outputs; a work item keeps a tile of some output channels x some vectors of outputs in
registers and goes through channels and taps once. Pools, and sums that are rounded to float16 at each step,
are computed by the kernels of `opencl-naive`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from backends.opencl import depthwise, launch, naive, runtime, tuned
from backends.opencl.tiles import VECTOR_BYTES, Tile, candidates, chunk_of_tiles, cycles, default_tile, from_settings
from backends.opencl.windows import Part, Stored, Windows, windows
from harness.backend import LAYOUTS, BackendInfo, Candidate, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype

#: Cycles to store a vector of a filter's outputs as it is, and in the pieces that lie in the output's rows.
WHOLE, PIECES = 2.0, 16.0
#: What says what the settings do.
TUNED_SOURCES = ("common.cl", "vectors.cl", "blocked.cl", "tiles.py")


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
        self.runtime = self._naive.runtime

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self.runtime.probe()

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
        """Build the kernels, plan the shifts, allocate the stored input; by what tuning found, if it did."""
        launch.handle_of(self.runtime, self.info.name, device)
        found = tuned.find(self.info.name, self.tuned_key(device), spec) if blocks(spec) else None
        # of the candidates alone: whatever else a file may hold is not built
        known = found is not None and any(found == c.settings for c in self.candidates(spec, device))
        return self._prepared(spec, device, from_settings(found) if found is not None and known else None)

    def prepare_with(self, spec: ConvSpec, device: str, settings: Mapping[str, int], /) -> Prepared:
        """As `prepare`, by these settings."""
        launch.handle_of(self.runtime, self.info.name, device)
        return self._prepared(spec, device, from_settings(settings))

    def _prepared(self, spec: ConvSpec, device: str, tile: Tile | None) -> Prepared:
        if not blocks(spec):
            return self._naive.prepare(spec, device)
        plan = windows(spec)
        stored = (*spec.x_shape[:2], plan.stored.channel)
        if reason := launch.why_not(spec, self.runtime.handles()[device], {"the stored input": stored}):
            raise Unsupported(reason)
        return _Direct(spec, device, self.runtime, plan, tile)

    def candidates(self, spec: ConvSpec, device: str, /) -> Sequence[Candidate]:
        """Tiles of the blocked kernel; none where another computes `spec`."""
        handle = launch.handle_of(self.runtime, self.info.name, device)
        plan, item = windows(spec) if blocks(spec) else None, dtype(launch.WORK[spec.acc_dtype]).itemsize
        if plan is None or is_dense(spec) or depthwise.strip_rows(spec, handle, item):
            return ()
        pixels = max(p.pixels(plan.stored) for p in plan.parts)
        taps = max(len(p.taps) for p in plan.parts)
        filters, processor = spec.out_channels // spec.groups, runtime.is_processor(handle)
        default = untuned(spec, plan, processor, item)
        found = candidates(default, pixels, filters, taps, processor, handle.max_work_group_size)
        return [Candidate(t.settings, t.span, t.block) for t in found]

    def tuned_key(self, device: str, /) -> Mapping[str, str]:
        """The device, its driver and how much of it is used; the kernels and what their settings mean."""
        return tuned.key(device, self.runtime.handles()[device], TUNED_SOURCES)


backend = OpenCLDirect()


def blocks(spec: ConvSpec) -> bool:
    """Whether the blocked kernel computes `spec`: sums that are not rounded to float16 as they grow."""
    return not spec.is_pool and spec.acc_dtype != "f16"


def untuned(spec: ConvSpec, plan: Windows, processor: bool, itemsize: int) -> Tile:
    """The tile where tuning has found none."""
    filters = spec.out_channels // spec.groups
    tile = default_tile(max(p.pixels(plan.stored) for p in plan.parts), filters, processor, itemsize)
    if processor and (wide := plan.parts[0].size[2]) % tile.width == 0 and not plan.dense:
        tile = default_tile(wide, filters, processor, itemsize)  # rows of whole vectors go by themselves
    return tile


class _Direct(launch.Launches):
    """The stored input's kernel, and a blocked one a part."""

    def __init__(
        self, spec: ConvSpec, device: str, run_time: runtime.Runtime, plan: Windows, found: Tile | None = None
    ) -> None:
        super().__init__(spec, device, run_time)
        self.tuned: dict[str, int] = {}
        self.processor = runtime.is_processor(self.handle)
        self.plan = plan
        # vectors are loaded whole: a channel that is shorter than one has others behind it, the last one room
        filters = spec.out_channels // spec.groups
        tile = found.fitted(filters) if found else untuned(spec, plan, self.processor, self.work.itemsize)
        self.tile = tile
        if is_dense(spec):
            self.steps.append(self._dense())
            return
        if rows := depthwise.strip_rows(spec, self.handle, self.work.itemsize):
            self.steps.append(depthwise.step(self, rows))
            return
        self.tuned = found.settings if found else {}
        stored = None
        if not plan.dense or min(p.pixels(plan.stored) for p in plan.parts) < tile.width:
            stored = self.scratch(prod(spec.x_shape[:2]) * plan.stored.channel + tile.width)
            self.steps.append(pack_step(self, plan.stored, stored, tile.width))
        for part in plan.parts:
            self.steps.append(self._blocked(part, tile, stored))

    def _blocked(self, part: Part, tile: Tile, stored: Any) -> launch.Step:
        spec = self.spec
        assert spec.w_shape is not None
        pixels, across = part.pixels(self.plan.stored), 0
        tiles = -(-pixels // tile.span)
        filters = spec.out_channels // spec.groups
        if self.processor and self._by_rows(part, pixels):
            across = -(-part.size[2] // tile.span)
            tiles = across * prod(part.size[:2])
        count = -(-filters // tile.block)
        reach = int(part.taps[:, 0].max(initial=0))
        chunk = chunk_of_tiles(spec.in_channels // spec.groups * self.work.itemsize, tile.span, reach, tile.chunk)
        fields = pack_plan(spec, self.plan, part, tiles, count, min(chunk, tiles), across)
        taps = part.taps if len(part.taps) else np.zeros((1, 2), np.int32)
        unrolled = len(part.taps) if len(part.taps) <= tile.unroll else 0
        kernel = self.kernel(
            ("vectors.cl", "blocked.cl"), "blocked", tile.options(unrolled),
            self.constant(fields), self.constant(taps), stored,
        )  # fmt: skip
        operands = {"w": 3, "b": 4, "y": 5} | ({} if stored else {"x": 2})
        size = (tiles * count * tile.items, spec.groups, spec.batch)
        return launch.Step("kernel", kernel, size, (tile.items, 1, 1), operands)

    def _by_rows(self, part: Part, pixels: int) -> bool:
        """Whether tiles should end with the rows of the output, as they then are stored as they are.

        The model of tiles.py, with the terms of a sum and what it costs to store a tile in pieces.
        """
        spec, width, size = self.spec, self.tile.width, part.size
        if part.step != (1, 1, 1) or size[2] < width or pixels == prod(size):
            return False
        filters, terms = spec.out_channels // spec.groups, len(part.taps) * spec.in_channels // spec.groups

        def cost(outputs: int, stored: float) -> float:
            return cycles(outputs, filters, self.tile.block, self.tile.vectors, width) * terms + stored * -(-outputs // width)

        return prod(size[:2]) * cost(size[2], WHOLE * filters) < cost(pixels, PIECES * filters)

    def _dense(self) -> launch.Step:
        spec, rows = self.spec, 16
        width, items = (VECTOR_BYTES // self.work.itemsize, 1) if self.processor else (1, 64)
        filters, terms = spec.out_channels // spec.groups, spec.in_channels // spec.groups * prod(spec.kernel_size)
        built = (f"-DWIDTH={width}", f"-DITEMS={items}", f"-DROWS={rows}")
        numbers = map(np.int32, (filters, terms, spec.bias))
        kernel = self.kernel(("vectors.cl", "dense.cl"), "dense", built, None, None, None, None, *numbers)
        size = (-(-filters // rows) * items, spec.groups, spec.batch)
        return launch.Step("kernel", kernel, size, (items, 1, 1), {"x": 0, "w": 1, "b": 2, "y": 3})


def is_dense(spec: ConvSpec) -> bool:
    """Whether the one window is the whole input, in order."""
    whole = spec.kernel_size == spec.in_size and not any(map(any, spec.padding)) and not spec.flip
    return spec.op == "conv" and whole and prod(spec.dilation) == 1


def pack_step(of: launch.Launches, form: Stored, stored: Any, room: int) -> launch.Step:
    """The launch that fills `stored` from x, and `room` elements behind with zeros."""
    spec = of.spec
    lifted = spec.lifted()
    channels = prod(spec.x_shape[:2])
    counts = [len(p) for p in form.phases]
    fields = np.array(
        [
            channels,
            naive.MODES[spec.padding_mode],
            *lifted.in_size,
            *form.size,
            *form.first,
            *form.stride,
            *counts,
            *limits(spec),
            room,
        ],
        np.int64,
    )
    residues = np.array([r for phases in form.phases for r in phases], np.int32)
    processor = runtime.is_processor(of.handle)
    kernel = of.kernel(
        ("pack.cl",), "pack", ("-DBY_PLANE",) if processor else (), of.constant(fields), of.constant(residues), None, stored
    )
    size = channels * form.channel // (form.size[1] * form.size[2] if processor else 1)
    local = 1 if processor else of.runtime.local_size(of.device, kernel)
    return launch.Step("pack", kernel, (-(-size // local) * local,), (local,), {"x": 2})


def limits(spec: ConvSpec) -> tuple[int, ...]:
    """The first place beyond the high padding, an axis; a transposed convolution's input ends where it ends."""
    lifted = spec.lifted()
    padding = [(0, 0)] * 3 if spec.op == "conv_transpose" else lifted.padding
    return tuple(n + hi for n, (_, hi) in zip(lifted.in_size, padding, strict=True))


def pack_plan(spec: ConvSpec, plan: Windows, part: Part, tiles: int, blocks: int, chunk: int, row_tiles: int) -> np.ndarray:
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
            *(len(part.taps), part.size[2] if row_tiles else part.pixels(plan.stored), tiles, blocks),
            *(chunk, spec.bias, plan.stored.channel, w_out),
            *(w_in, weights // spec.groups, *plan.stored.size[1:]),
            *(channels * plan.stored.channel, filters * prod(spec.out_size), row_tiles),
            *(*part.size, *part.first, *part.step, *lifted.out_size),
        ],
        np.int64,
    )
