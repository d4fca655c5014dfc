"""The launch of the depthwise kernel: when it applies, and how many rows a strip has."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from backends.opencl import launch, naive, runtime
from backends.opencl.tiles import SMALL, VECTOR_BYTES
from harness.spec import ConvSpec

#: Numbers of taps that are unrolled: each is a program of its own.
UNROLLED = (3, 9, 25)
#: Bytes of local memory that a strip takes: a processor's first cache and some of its second.
STRIP_BYTES = 64 << 10
#: Vectors of room behind a strip: a row's last copy, and the last load of a tap.
ROOM = 3


def strip_rows(spec: ConvSpec, handle: Any, itemsize: int) -> int:
    """Output rows of a strip; 0 where the kernel does not apply: one filter a channel, two axes, stride 1 or 2 of columns."""
    lifted = spec.lifted()
    flat = max(lifted.kernel_size[0], lifted.out_size[0], lifted.in_size[0]) == 1 and lifted.padding[0] == (0, 0)
    if spec.op != "conv" or spec.groups != spec.in_channels or not flat or lifted.stride[2] > 2:
        return 0
    pitch, _ = _extents(lifted)
    fits = min(STRIP_BYTES, handle.local_mem_size // 2) // itemsize - ROOM * VECTOR_BYTES
    reach = (lifted.kernel_size[1] - 1) * lifted.dilation[1] + 1
    rows = (fits // pitch - reach) // lifted.stride[1] + 1
    return max(0, min(rows, lifted.out_size[1]))


def _extents(lifted: ConvSpec) -> tuple[int, int]:
    """Input columns that a row of outputs reads, and input rows that a strip of one row reads."""
    taps, dilation = lifted.kernel_size, lifted.dilation
    columns = (lifted.out_size[2] - 1) * lifted.stride[2] + (taps[2] - 1) * dilation[2] + 1
    return columns, (taps[1] - 1) * dilation[1] + 1


def step(of: launch.Launches, rows: int) -> launch.Step:
    """The launch over strips of `rows` output rows."""
    spec = of.spec
    lifted = spec.lifted()
    processor = runtime.is_processor(of.handle)
    width, items = (VECTOR_BYTES // of.work.itemsize, 1) if processor else (1, 128)
    small = prod(spec.out_shape) < SMALL
    while not small and width > 4 and 2 * lifted.out_size[2] <= width:
        width //= 2
    pitch, reach = _extents(lifted)
    high = (rows - 1) * lifted.stride[1] + reach
    numbers = range(prod(spec.kernel_size))
    places = [i * lifted.dilation[1] * pitch + j * lifted.dilation[2] for i, j in product(*map(range, lifted.kernel_size[1:]))]
    taps = np.array(list(zip(places, reversed(numbers) if spec.flip else numbers, strict=True)), np.int32)
    strips, planes = -(-lifted.out_size[1] // rows), spec.batch * spec.out_channels
    share = max(1, min(8, planes * strips // (8 * of.handle.max_compute_units))) if processor else 1
    low = [lo for lo, _ in lifted.padding[1:]]
    limits = [n + hi for n, (_, hi) in zip(lifted.in_size[1:], lifted.padding[1:], strict=True)]
    fields = np.array(
        [
            *(spec.in_channels, spec.out_channels, len(taps), spec.bias, *lifted.in_size[1:], *lifted.out_size[1:]),
            *(*low, *limits, lifted.stride[1], rows, high, pitch),
            *(strips, naive.MODES[spec.padding_mode], spec.out_channels // spec.groups, planes, share),
        ],
        np.int64,
    )
    built = [f"-DWIDTH={width}", f"-DITEMS={items}", f"-DSTRIDE_W={lifted.stride[2]}"]
    if len(taps) in UNROLLED and not small:
        built.append(f"-DTAPS={len(taps)}")
    local = of.local((high * pitch + ROOM * width) * of.work.itemsize)
    kernel = of.kernel(
        ("vectors.cl", "depthwise.cl"),
        "depthwise",
        built,
        of.constant(fields),
        of.constant(taps),
        None,
        None,
        None,
        None,
        local,
    )
    operands = {"x": 2, "w": 3, "b": 4, "y": 5}
    return launch.Step("kernel", kernel, (-(-planes * strips // share) * items,), (items,), operands)
