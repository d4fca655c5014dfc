"""`opencl-direct`: sums of products in registers, without a matrix of patches.

The input is stored padded and by the residues of the stride (or not at all, where it is that already), so that each
tap is one offset for all outputs; a work item keeps a tile of some output channels x some vectors of outputs in
registers and goes through channels and taps once. Pools, and sums that are rounded to float16 at each step,
are computed by the kernels of `opencl-naive`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from backends.opencl import launch, naive, runtime
from backends.opencl.tiles import VECTOR_BYTES, Tile, chunk_of_tiles, default_tile
from backends.opencl.windows import Part, Stored, Windows, windows
from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype

#: Taps of a depthwise convolution that are unrolled.
MOST_UNROLLED = 25


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
        """Build the kernels, plan the shifts, allocate the stored input."""
        handle = launch.handle_of(self.runtime, self.info.name, device)
        if not blocks(spec):
            return self._naive.prepare(spec, device)
        plan = windows(spec)
        stored = (*spec.x_shape[:2], plan.stored.channel)
        if reason := launch.why_not(spec, handle, {"the stored input": stored}):
            raise Unsupported(reason)
        return _Direct(spec, device, self.runtime, plan)


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
        pixels = max(p.pixels(plan.stored) for p in plan.parts)
        tile = default_tile(pixels, spec.out_channels // spec.groups, self.processor, self.work.itemsize)
        if is_dense(spec):
            self.steps.append(self._dense())
            return
        if rows := strip_rows(spec, plan, self.handle, self.work.itemsize):
            self.steps.append(self._depthwise(rows))
            return
        stored = None
        if not plan.dense or min(p.pixels(plan.stored) for p in plan.parts) < tile.width:
            stored = self.scratch(prod(spec.x_shape[:2]) * plan.stored.channel + tile.width)
            self.steps.append(pack_step(self, plan.stored, stored))
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
        unrolled = len(part.taps) if len(part.taps) == 1 else 0
        kernel = self.kernel(
            ("vectors.cl", "blocked.cl"), "blocked", tile.options(unrolled),
            self.constant(fields), self.constant(taps), stored,
        )  # fmt: skip
        operands = {"w": 3, "b": 4, "y": 5} | ({} if stored else {"x": 2})
        size = (tiles * count * tile.items, spec.groups, spec.batch)
        return launch.Step("kernel", kernel, size, (tile.items, 1, 1), operands)

    def _dense(self) -> launch.Step:
        spec, rows = self.spec, 4
        width, items = (VECTOR_BYTES // self.work.itemsize, 1) if self.processor else (1, 64)
        filters, terms = spec.out_channels // spec.groups, spec.in_channels // spec.groups * prod(spec.kernel_size)
        built = (f"-DWIDTH={width}", f"-DITEMS={items}", f"-DROWS={rows}")
        numbers = map(np.int32, (filters, terms, spec.bias))
        kernel = self.kernel(("vectors.cl", "dense.cl"), "dense", built, None, None, None, None, *numbers)
        size = (-(-filters // rows) * items, spec.groups, spec.batch)
        return launch.Step("kernel", kernel, size, (items, 1, 1), {"x": 0, "w": 1, "b": 2, "y": 3})

    def _depthwise(self, rows: int) -> launch.Step:
        spec, form, (part,) = self.spec, self.plan.stored, self.plan.parts
        lifted = spec.lifted()
        width, items = (VECTOR_BYTES // self.work.itemsize, 1) if self.processor else (1, 128)
        while width > 4 and 2 * lifted.out_size[2] <= width:
            width //= 2
        high, pitch = rows + form.size[1] - lifted.out_size[1], form.size[2]
        taps = [_in_strip(at, form, high) for at in part.taps[:, 0].tolist()]
        strips, planes = -(-lifted.out_size[1] // rows), spec.batch * spec.out_channels
        share = max(1, min(8, planes * strips // (8 * self.handle.max_compute_units))) if self.processor else 1
        unrolled = (f"-DTAPS={len(taps)}",) if len(taps) <= MOST_UNROLLED else ()
        fields = np.array(
            [
                *(spec.in_channels, spec.out_channels, len(taps), spec.bias, *lifted.in_size[1:], *lifted.out_size[1:]),
                *(*form.first[1:], *form.stride[1:], len(form.phases[1]), len(form.phases[2]), rows, high),
                *(pitch, strips, naive.MODES[spec.padding_mode], spec.out_channels // spec.groups),
                *(*limits(spec)[1:], planes, share),
            ],
            np.int64,
        )
        numbers = np.array([*form.phases[1], *form.phases[2], *taps], np.int32)
        local = (len(form.phases[1]) * len(form.phases[2]) * high * pitch + 4 * width) * self.work.itemsize
        kernel = self.kernel(
            ("vectors.cl", "depthwise.cl"), "depthwise", (f"-DWIDTH={width}", f"-DITEMS={items}", *unrolled),
            self.constant(fields), self.constant(numbers), self.constant(part.taps[:, 1].astype(np.int32)),
            None, None, None, None, self._cl.LocalMemory(local),
        )  # fmt: skip
        operands = {"x": 3, "w": 4, "b": 5, "y": 6}
        return launch.Step("kernel", kernel, (-(-planes * strips // share) * items,), (items,), operands)


def _in_strip(offset: int, form: Stored, high: int) -> int:
    """A tap's offset in a strip, which holds `high` rows of each residue, from that in a whole channel."""
    residue, place = divmod(offset, form.size[1] * form.size[2])
    return residue * high * form.size[2] + place


def is_dense(spec: ConvSpec) -> bool:
    """Whether the one window is the whole input, in order."""
    whole = spec.kernel_size == spec.in_size and not any(map(any, spec.padding)) and not spec.flip
    return spec.op == "conv" and whole and prod(spec.dilation) == 1


#: Bytes of local memory that a strip of a depthwise convolution takes: a processor's first cache and some of its second.
STRIP_BYTES = 64 << 10


def strip_rows(spec: ConvSpec, plan: Windows, handle: Any, itemsize: int) -> int:
    """Output rows of a strip of a depthwise convolution; 0 where the kernel for it does not apply."""
    lifted, form = spec.lifted(), plan.stored
    if spec.op != "conv" or spec.groups != spec.in_channels or lifted.kernel_size[0] > 1 or lifted.out_size[0] > 1:
        return 0
    if lifted.in_size[0] > 1 or form.first[0] != 0:
        return 0
    residues, reach = len(form.phases[1]) * len(form.phases[2]), form.size[1] - lifted.out_size[1]
    fits = (min(STRIP_BYTES, handle.local_mem_size // 2) // itemsize - 4 * VECTOR_BYTES) // (residues * form.size[2]) - reach
    return max(0, min(fits, lifted.out_size[1]))


def pack_step(of: launch.Launches, form: Stored, stored: Any) -> launch.Step:
    """The launch that fills `stored` from x."""
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
            *(channels * plan.stored.channel, filters * prod(spec.out_size)),
            *(*part.size, *part.first, *part.step, *lifted.out_size),
        ],
        np.int64,
    )
