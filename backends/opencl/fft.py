"""`opencl-fft`: overlap-save, transforms side by side in the lanes of vectors, channels contracted a frequency at a time.

A strided convolution becomes one of stride 1 whose phases are further channels (`backends.fft_phases`). Blocks of the
input, two of one image in each complex transform, and all filters are transformed; which of blocks, filters or groups
stand side by side, and how long the transforms are, goes by cost. Errors are relative to the norms of image and
filter, as in `backends.fft`; outputs that no tap reaches are exact.

References
----------
A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., 2010, section 8.7.3 (overlap-save).
W. M. Gentleman, G. Sande, "Fast Fourier transforms: for fun and profit", AFIPS 1966 (decimation in frequency).
D. H. Bailey, "FFTs in external or hierarchical memory", J. Supercomputing 4, 1990 (one long axis as two).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import isqrt, log2, prod
from typing import Any

import numpy as np

from backends.fft_phases import Dense, dense
from backends.opencl import launch, naive, runtime
from harness.backend import FFT, LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype

TYPES = ("f32", "f64", "f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32")
VECTOR_BYTES = 64
GPU_LANES = 32
#: Costs in nanoseconds on one core with 16 lanes: a point and stage of a transform, a point read or stored, a product of
#: spectra.
STAGE_NS, POINT_NS, PRODUCT_NS = 0.1, 0.8, 0.12
#: A batch of transforms that takes more than this leaves the cache between its passes.
BATCH_BYTES = 1 << 20
#: Cuts whose spectra take more bytes than this are chosen only if there are none that take less.
SPECTRA_BYTES = 512 << 20
#: A single axis that is longer than this is transformed as two: its passes then stay in the first cache.
SPLIT = 128
SLICE = 16


class OpenCLFft:
    """The backend object; see the contract in `harness.backend`."""

    info = BackendInfo(
        "opencl-fft",
        "OpenCL, overlap-save by transforms side by side, channels contracted a frequency at a time",
        Limits(("conv",), TYPES, padding_modes=tuple(naive.MODES)),
        FFT,
        extra="opencl",
        version="1",
        taint="image",
        layouts=LAYOUTS,
    )

    def __init__(self) -> None:
        self._runtime = runtime.Runtime()

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self._runtime.probe()

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The spectra and tables of a processor's plan or a GPU's, and what `opencl-naive` takes."""
        item = dtype(launch.WORK[spec.acc_dtype]).itemsize
        plans = [plan(spec, lanes, item) for lanes in (VECTOR_BYTES // item, GPU_LANES)]
        return naive.OpenCLNaive().workspace_bytes(spec) + max(p.spectra_bytes + p.table_bytes for p in plans)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the kernels, choose the blocks, allocate the spectra."""
        handle = launch.handle_of(self._runtime, self.info.name, device)
        item = dtype(launch.WORK[spec.acc_dtype]).itemsize
        p = plan(spec, VECTOR_BYTES // item if runtime.is_processor(handle) else GPU_LANES, item)
        spectra = {f"the spectra of {name}": (count, p.batch) for name, count in p.batches.items()}
        if reason := launch.why_not(spec, handle, spectra):
            raise Unsupported(reason)
        return _Fft(spec, device, self._runtime, p)


backend = OpenCLFft()


@dataclass(frozen=True)
class Plan:
    """Blocks and lanes of one specification.

    Attributes
    ----------
    dense : Dense
        The convolution of stride 1, its axes lifted to three.
    transform, block : tuple of int
        Length of a transform and outputs of a block, an axis.
    lanes : int
        Transforms side by side.
    across : {'blocks', 'rows', 'groups'}
        What the lanes of an output's spectra are: pairs of blocks, output channels or groups.
    itemsize : int
        Bytes of a real number.
    """

    dense: Dense
    transform: tuple[int, int, int]
    block: tuple[int, int, int]
    lanes: int
    across: str
    itemsize: int

    @property
    def split(self) -> bool:
        """Whether the last axis, the only one, is stored as rows and transformed as two axes."""
        return self.transform[:2] == (1, 1) and self.transform[2] > SPLIT

    @property
    def size(self) -> tuple[int, int, int]:
        """Of a stored transform: planes, rows, columns."""
        if not self.split:
            return self.transform
        length = self.transform[2]
        rows = next(r for r in range(isqrt(length), 0, -1) if length % r == 0)
        return 1, rows, length // rows

    @property
    def pitch(self) -> int:
        """Points of a stored row: odd or 2, so that columns do not fall into few sets of a cache."""
        return self.size[2] + 1 - self.size[2] % 2 if self.size[2] > 1 else 2

    @property
    def points(self) -> int:
        """Of a stored transform, those between the rows included."""
        return self.size[0] * self.size[1] * self.pitch

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Blocks an axis."""
        a, b, c = (-(-a.count // n) for a, n in zip(self.dense.axes, self.block, strict=True))
        return a, b, c

    @property
    def pairs(self) -> int:
        """Pairs of blocks, of all samples: two of one image each, since what is large in one transform blurs all of it."""
        return self.dense.batch * -(-prod(self.blocks) // 2)

    @property
    def batch(self) -> int:
        """Real numbers of the spectra of a batch."""
        return 2 * self.points * self.lanes

    @property
    def products(self) -> tuple[int, int, int, int]:
        """Numbers of o, chunk, c and r in fft.cl."""
        d = self.dense
        if self.across == "blocks":
            return d.groups, -(-self.pairs // self.lanes), d.cols, d.rows
        if self.across == "rows":
            return d.groups, -(-d.rows // self.lanes), d.cols, self.pairs
        return d.rows, -(-d.groups // self.lanes), d.cols, self.pairs

    @property
    def batches(self) -> dict[str, int]:
        """Batches of the spectra of x, w and y."""
        outer, chunks, cols, rows = self.products
        vector = outer * chunks * cols
        other = rows * cols * chunks if self.across == "groups" else -(-outer * rows * cols // self.lanes)
        x, w = (vector, other) if self.across == "blocks" else (other, vector)
        return {"x": x, "w": w, "y": outer * rows * chunks}

    @property
    def spectra_bytes(self) -> int:
        """Of all spectra."""
        return sum(self.batches.values()) * self.batch * self.itemsize

    @property
    def table_bytes(self) -> int:
        """Of the places and factors, twice: the device's and the host's."""
        return 2 * (sum(self.batches.values()) * self.lanes * 32 + (sum(self.size) + self.points) * 2 * self.itemsize) + 8192

    @property
    def cost(self) -> float:
        """Nanoseconds on one core."""
        points, n = prod(self.transform), self.batches
        far = 2.0 if self.batch * self.itemsize > BATCH_BYTES else 1.0
        transforms = sum(n.values()) * self.lanes * points * (STAGE_NS * far * log2(max(points, 2)) + POINT_NS)
        return transforms + n["y"] * self.dense.cols * self.lanes * points * PRODUCT_NS


@lru_cache(512)
def plan(spec: ConvSpec, lanes: int, itemsize: int) -> Plan:
    """The cut of least cost.

    Examples
    --------
    >>> plan(ConvSpec("conv", (100_000,), (501,)), 16, 4).across
    'blocks'
    """
    d = dense(spec.lifted())
    best: tuple[tuple[bool, float], Plan] | None = None
    for cut in product(*(_cuts(a.m, a.count) for a in d.axes)):
        transform, block = zip(*cut, strict=True)
        for across in ("blocks", "rows", "groups"):
            p = Plan(d, transform, block, lanes, across, itemsize)
            over = p.spectra_bytes > SPECTRA_BYTES
            rank = (over, float(p.spectra_bytes) if over else p.cost)
            if best is None or rank < best[0]:
                best = rank, p
    assert best is not None
    return best[1]


def _cuts(taps: int, outputs: int) -> list[tuple[int, int]]:
    """(transform, block) lengths of an axis: the shortest transform a number of blocks, from 16 points on."""
    whole = outputs + taps - 1
    found: list[tuple[int, int]] = []
    for length in lengths(max(taps, min(16, whole))):
        block = min(outputs, length - taps + 1)
        if not found or -(-outputs // block) < -(-outputs // found[-1][1]):
            found.append((length, block))
        if length >= whole:
            return found
        if len(found) > 1 and length > 16 * taps and length > 8192:
            return found
    raise AssertionError


def lengths(least: int) -> Iterator[int]:
    """The lengths 2^a and 3 2^a from `least` on.

    Examples
    --------
    >>> found = lengths(10)
    >>> [next(found) for _ in range(4)]
    [12, 16, 24, 32]
    """
    n = 1
    while True:
        for length in (n, n + n // 2):
            if length >= least and (length > n or n == length):
                yield length
        n *= 2


def radices(n: int) -> list[int]:
    """The stages of a transform of 2^a or 3 2^a points, long ones first.

    Examples
    --------
    >>> radices(64), radices(96), radices(1)
    ([8, 8], [8, 4, 3], [])
    """
    found = []
    three = n % 3 == 0
    twos = (n // 3 if three else n).bit_length() - 1
    while twos > 4 or twos == 3:
        found.append(8)
        twos -= 3
    found += [4] * (twos // 2) + [2] * (twos % 2) + [3] * three
    return found


def order(n: int) -> np.ndarray:
    """The frequency at each place of a transform by decimation in frequency.

    Examples
    --------
    >>> order(6).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    frequencies, step = np.zeros(1, np.int64), 1
    for radix in radices(n):
        frequencies = (frequencies[:, None] + step * np.arange(radix)).ravel()
        step *= radix
    return frequencies


def factors(turns: np.ndarray, n: int) -> np.ndarray:
    """exp(-2 pi i turns / n) as pairs, from a precision higher than float64 where there is one."""
    angle = np.longdouble("6.283185307179586476925286766559") * (turns % n).astype(np.longdouble) / n
    return np.stack([np.cos(angle), -np.sin(angle)], -1).reshape(-1, 2).astype(np.float64)


def stage_factors(n: int) -> np.ndarray:
    """Of a pass: for each stage and each place in its pieces, the factors of its outputs but the first."""
    found, whole = [np.zeros((0, 2))], n
    for radix in radices(n):
        sub = whole // radix
        found.append(factors(np.outer(np.arange(sub), np.arange(1, radix)), whole))
        whole = sub
    return np.concatenate(found)


class _Fft(launch.Launches):
    """Spectra of x and w, their products, the outputs."""

    def __init__(self, spec: ConvSpec, device: str, run_time: runtime.Runtime, p: Plan) -> None:
        super().__init__(spec, device, run_time)
        self.plan = p
        if spec.batch == 0:
            return
        self._processor = runtime.is_processor(self.handle)
        spread = ("-DSPREAD",) if p.across != "groups" else ()
        self._built = (f"-DLANES={p.lanes}", f"-DWIDTH={p.lanes if self._processor else 1}", *spread)
        fields, table = pack_plan(spec, p)
        self._fields, self._factors = self.constant(fields), self.constant(table.astype(self.work))
        self._places = {name: self.constant(at) for name, at in places(spec, p).items()}
        self._reached = self.constant(reached(spec))
        self._spectra = {name: self._zeros(count * p.batch) for name, count in p.batches.items()}
        if self._processor:
            self._on_processor()
        else:
            self._on_gpu()

    def _zeros(self, count: int) -> Any:
        """A buffer of zeros: what stands between the rows is multiplied too, and never written."""
        flags = self._cl.mem_flags.READ_WRITE | self._cl.mem_flags.COPY_HOST_PTR
        try:
            buffer = self._cl.Buffer(self.queue.context, flags, hostbuf=np.zeros(max(count, 4), self.work))
        except self._cl.MemoryError as error:
            raise MemoryError(f"the device cannot allocate {count * self.work.itemsize} bytes: {error}") from error
        self._owned.append(buffer)
        return buffer

    def _on_processor(self) -> None:
        p, n = self.plan, self.plan.batches
        _, chunks, cols, rows = p.products
        for name, phase in (("w", "pack"), ("x", "kernel")):
            arguments = (self._fields, self._places[name], self._factors, None, self._spectra[name], np.int32(n[name]))
            self._add(phase, f"forward_{name}", n[name], {name: 3}, *arguments)
        v, s = self._vector_and_other()
        if cols > 1:
            self._add_products(v, s)
        self._add(
            "kernel", "inverse_y", n["y"], {"b": 3, "y": 5},
            self._fields, self._places["y"], self._factors, None, self._reached, None, self._spectra["y"], np.int32(n["y"]),
            self.work.type(1 / prod(p.transform)), v, s, np.int32(chunks), np.int32(rows), np.int32(cols == 1),
        )  # fmt: skip

    def _on_gpu(self) -> None:
        p, n = self.plan, self.plan.batches
        passes = [i for i, size in enumerate(p.size) if size > 1]
        lines = [prod(p.size) // p.size[i] for i in passes]
        for name, phase in (("w", "pack"), ("x", "kernel")):
            count, s = np.int32(n[name]), self._spectra[name]
            self._add(phase, f"fill_{name}", n[name] * p.points, {name: 2}, self._fields, self._places[name], None, s, count)
            for i, number in enumerate(lines):
                transform = (self._fields, self._factors, s, count, np.int32(i), np.int32(0))
                self._add(phase, "transform", n[name] * number, {}, *transform)
        self._add_products(*self._vector_and_other())
        count, s = np.int32(n["y"]), self._spectra["y"]
        for i in reversed(range(len(passes))):
            self._add(
                "kernel", "transform", n["y"] * lines[i], {}, self._fields, self._factors, s, count, np.int32(i), np.int32(1)
            )
        self._add(
            "kernel", "store", n["y"] * p.points, {"b": 2, "y": 4},
            self._fields, self._places["y"], None, self._reached, None, s, count, self.work.type(1 / prod(p.transform)),
        )  # fmt: skip

    def _vector_and_other(self) -> tuple[Any, Any]:
        x, w = self._spectra["x"], self._spectra["w"]
        return (x, w) if self.plan.across == "blocks" else (w, x)

    def _add_products(self, v: Any, s: Any) -> None:
        p = self.plan
        slice_ = SLICE if self._processor else 1
        outer, chunks = p.products[:2]
        numbers = (*p.products, p.points, slice_)
        items = outer * chunks * -(-p.points // slice_)
        self._add("kernel", "multiply", items, {}, v, s, self._spectra["y"], *map(np.int32, numbers))

    def _add(self, phase: str, name: str, items: int, operands: dict[str, int], *arguments: Any) -> None:
        """A launch of so many items, on a GPU for each lane."""
        kernel = self.kernel(("vectors.cl", "fft.cl"), name, self._built, *arguments)
        local, items = (
            (1, items) if self._processor else (self.runtime.local_size(self.device, kernel), items * self.plan.lanes)
        )
        self.steps.append(launch.Step(phase, kernel, (-(-items // local) * local,), (local,), operands))


def pack_plan(spec: ConvSpec, p: Plan) -> tuple[np.ndarray, np.ndarray]:
    """The `Plan` of fft.cl, as int64 in the order of its fields, and the table of factors."""
    lifted = spec.lifted()
    steps = (p.size[1] * p.pitch, p.pitch, 1)
    used = [(n, step) for n, step in zip(p.size, steps, strict=True) if n > 1]
    stages = [radices(n) for n, _ in used]
    tables, starts = [np.zeros((1, 2))], []
    for n, _ in used:
        starts.append(2 * sum(map(len, tables)))
        tables.append(stage_factors(n))
    between = 2 * sum(map(len, tables))
    if p.split:
        tables.append(factors(np.outer(np.arange(p.size[2]), order(p.size[1])), p.transform[2]))
    rest = [0] * (3 - len(used))
    fields = [
        *(*p.size, p.pitch, p.points, p.split),
        *(*p.transform, *(a.m for a in p.dense.axes), *p.block),
        *(*lifted.in_size, *lifted.out_size, *lifted.kernel_size, *lifted.stride, *lifted.dilation),
        *(naive.MODES[spec.padding_mode], spec.flip, spec.bias, spec.out_channels),
        *(len(used), *(n for n, _ in used), *rest, *(step for _, step in used), *rest, *map(len, stages), *rest),
        *(r for pass_ in (*stages, *([] for _ in rest)) for r in (*pass_, *[0] * (16 - len(pass_)))),
        *(*starts, *rest, between),
    ]
    return np.array(fields, np.int64), np.concatenate(tables)


def places(spec: ConvSpec, p: Plan) -> dict[str, np.ndarray]:
    """The table `place` of fft.cl for x, w and y, int32 (batches * lanes * 2, 4)."""
    d, lifted = p.dense, spec.lifted()
    phases = np.array(list(product(*d.phases)), np.int64).reshape(-1, 3)
    channels, per = spec.in_channels // spec.groups, len(phases)
    low = np.array([lo for lo, _ in lifted.padding])
    of_x, of_w, of_y = _numbers(p)

    group, channel, pair = np.broadcast_arrays(*of_x)
    sample, exists, start = _blocks_of(p, pair)
    real = exists & (_fits(group, d.groups) & _fits(channel, d.cols))[..., None]
    plane = sample * spec.in_channels + (group * channels + channel // per)[..., None]
    start = start * np.array(lifted.stride) - low + phases[np.maximum(channel, 0) % per][..., None, :]
    found = {"x": _table(real, plane, start)}

    group, row, channel = np.broadcast_arrays(*of_w)
    real = _fits(group, d.groups) & _fits(row, d.rows) & _fits(channel, d.cols)
    plane = (group * d.rows + row) * channels + channel // per
    residue = phases[np.maximum(channel, 0) % per]
    only = np.stack([real, np.zeros_like(real)], -1)  # the imaginary part of a filter is zero
    found["w"] = _table(only, np.stack([plane, plane], -1), np.stack([residue, residue], -2))

    group, row, pair = np.broadcast_arrays(*of_y)
    sample, exists, start = _blocks_of(p, pair)
    real = exists & (_fits(group, d.groups) & _fits(row, d.rows))[..., None]
    plane = sample * spec.out_channels + (group * d.rows + row)[..., None]
    found["y"] = _table(real, plane, start)
    return found


Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]


def _numbers(p: Plan) -> tuple[Numbers, Numbers, Numbers]:
    """Group, channel, pair of x; group, row, channel of w; group, row, pair of y: of each batch and lane, or beyond."""
    d = p.dense
    outer, chunks, cols, rows = p.products
    wide = (np.arange(chunks)[:, None] * p.lanes + np.arange(p.lanes))[None, None]  # (1, 1, chunks, lanes)

    def grid(*sizes: int) -> list[np.ndarray]:
        return [i[..., None, None] for i in np.indices(sizes)]

    def flat(*sizes: int) -> list[np.ndarray]:
        """Numbered on through all lanes, the last of them -1."""
        total = prod(sizes)
        numbers = np.arange(-(-total // p.lanes) * p.lanes)
        inside = np.unravel_index(np.minimum(numbers, total - 1), sizes)
        return [np.where(numbers < total, i, -1) for i in inside]

    if p.across == "blocks":
        group, channel = grid(d.groups, cols)
        of_group, of_row, of_channel = flat(d.groups, rows, cols)
        out_group, row = grid(d.groups, rows)
        return (group, channel, wide), (of_group, of_row, of_channel), (out_group, row, wide)
    if p.across == "rows":
        of_group, of_pair, of_channel = flat(d.groups, rows, cols)
        group, channel = grid(d.groups, cols)
        out_group, pair = grid(d.groups, rows)
        return (of_group, of_channel, of_pair), (group, wide, channel), (out_group, wide, pair)
    pair, channel = grid(rows, cols)
    row, of_channel = grid(outer, cols)
    out_row, out_pair = grid(outer, rows)
    return (wide, channel, pair), (wide, row, of_channel), (wide, out_row, out_pair)


def _blocks_of(p: Plan, pair: np.ndarray) -> Numbers:
    """Of pairs: the sample (..., 1), whether each block exists (..., 2), the output where it begins (..., 2, 3)."""
    blocks = prod(p.blocks)
    in_sample = -(-blocks // 2)
    number = (pair % in_sample)[..., None] * 2 + np.arange(2)
    exists = _fits(pair, p.pairs)[..., None] & (number < blocks)
    at = np.stack(np.unravel_index(np.where(exists, number, 0), p.blocks), -1)
    return (pair // in_sample)[..., None], exists, at * np.array(p.block)


def _fits(index: np.ndarray, most: int) -> np.ndarray:
    return (index >= 0) & (index < most)


def _table(real: np.ndarray, plane: np.ndarray, start: np.ndarray) -> np.ndarray:
    plane, start = np.where(real, plane, -1), np.where(real[..., None], start, 0)
    return np.concatenate([plane[..., None], start], -1).astype(np.int32).reshape(-1, 4)


def reached(spec: ConvSpec) -> np.ndarray:
    """For each output along each axis, whether any tap reaches it; 2 if it and the 15 behind it all are."""
    found = []
    for counts in spec.lifted().tap_counts:
        taps = np.asarray(counts) > 0
        after = np.concatenate([taps, np.zeros(15, bool)])
        found.append(taps + np.lib.stride_tricks.sliding_window_view(after, 16).all(-1).astype(np.int8))
    return np.concatenate(found).astype(np.int8)
