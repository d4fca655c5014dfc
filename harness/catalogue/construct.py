"""A small specification with given levels of the lattice, found by trying sizes in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from harness.catalogue.coverage import classify
from harness.spec import ConvSpec, SpecError
from harness.spec.geometry import Axis, same_padding

#: Specifications that are tried for one choice of levels.
MOST_TRIES = 6000
#: Products in a float16 accumulator, as in the linter.
MOST_F16_PRODUCTS = 128

_SIZES: Mapping[int, Sequence[tuple[int, ...]]] = {
    1: ((7,), (9,), (6,), (8,), (11,), (5,)),
    2: ((5, 7), (6, 5), (8, 6), (4, 9), (7, 4), (9, 8)),
    3: ((4, 5, 6), (5, 3, 4), (3, 6, 5), (6, 4, 3), (4, 3, 7), (5, 7, 6)),
}
_SHORT: Mapping[int, Sequence[tuple[int, ...]]] = {
    1: ((3,), (2,), (4,)),
    2: ((2, 5), (6, 3), (3, 4), (3, 7), (5, 2)),
    3: ((2, 4, 5), (4, 3, 5), (5, 4, 2), (3, 4, 6)),
}
_MIXED: Mapping[int, Sequence[tuple[int, ...]]] = {
    2: ((3, 2), (2, 3), (2, 4), (1, 3), (3, 1)),
    3: ((2, 3, 2), (3, 2, 4), (1, 3, 2), (2, 1, 3), (2, 2, 3)),
}
_PER_AXIS: Mapping[int, Sequence[tuple[int, ...]]] = {
    2: ((2, 1), (1, 2), (3, 2), (2, 3)),
    3: ((1, 2, 1), (2, 1, 2), (1, 2, 3), (2, 2, 1), (1, 1, 2)),
}
_CHANNEL_COUNTS = {"1": (1,), "not-8k": (3, 2, 5, 6, 4, 10, 12), "8k": (8, 16, 24)}


def construct(levels: Mapping[str, str], turn: int = 0) -> ConvSpec | None:
    """A specification with exactly these levels, or None where no small one was found.

    Parameters
    ----------
    levels : mapping
        A level for every factor.
    turn : int
        Where each list of sizes is entered, so that cases differ in more than their levels.

    Examples
    --------
    >>> from harness.catalogue.coverage import FACTORS
    >>> str(construct({f: v[0] for f, v in FACTORS.items()} | {"batch": "1"}))
    'conv x[1, 1, 7] w[1, 1, 1] f32'
    """
    rank = int(levels["rank"])
    common = _common(levels)
    for channels, sizes in product(_turned(list(_channels(levels)), turn), _sizes(levels, rank, turn)):
        for spec in islice(_specs(levels, rank, common | channels | sizes, turn), MOST_TRIES // 20):
            if classify(spec) == dict(levels) and _proves_something(spec):
                return spec
    return None


def _common(levels: Mapping[str, str]) -> dict[str, Any]:
    flags = ("bias", "flip", "ceil_mode", "count_include_pad")
    types = dict(zip(("in_dtype", "acc_dtype", "out_dtype"), levels["dtypes"].split("/"), strict=True))
    batch = {"0": 0, "1": 1, "many": 2}[levels["batch"]]
    fixed = {"op": levels["op"], "batch": batch, "padding_mode": levels["padding_mode"]}
    return fixed | {f: levels[f] == "yes" for f in flags} | types


def _channels(levels: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Channel and group counts, input and output apart where they may be."""
    pool, kind = levels["op"].endswith("_pool"), levels["groups"]
    for i, o in product(_CHANNEL_COUNTS[levels["in_channels"]], _CHANNEL_COUNTS[levels["out_channels"]]):
        groups = {"1": 1, "some": next((g for g in (2, 3, 4, 5) if g < i and i % g == 0 == o % g), 0)}.get(kind, i)
        kept = pool or kind == "depthwise"
        if groups and o % groups == 0 and (i == o) == (kept or i == o == 1):
            yield {"in_channels": i, "out_channels": o, "groups": groups}


def _sizes(levels: Mapping[str, str], rank: int, turn: int) -> Iterator[dict[str, tuple[int, ...]]]:
    kernel, stride, dilation = levels["kernel"], levels["stride"], levels["dilation"]
    long = kernel == "beyond-input"
    kernels = {
        "1": [(1,) * rank], "odd": [(3,) * rank, (5,) * rank], "even": [(2,) * rank, (4,) * rank],
        "mixed": _MIXED.get(rank, ()), "beyond-input": [(4,) * rank, (3,) * rank, *_MIXED.get(rank, ())],
    }[kernel]  # fmt: skip
    strides = {
        "1": [(1,) * rank], "uniform": [(2,) * rank, (3,) * rank], "per-axis": _PER_AXIS.get(rank, ()),
        "beyond-kernel": [(4,) * rank, (2,) * rank, (5,) * rank, *_PER_AXIS.get(rank, ())],
    }[stride]  # fmt: skip
    dilations = {"1": [(1,) * rank], "uniform": [(2,) * rank, (3,) * rank], "per-axis": _PER_AXIS.get(rank, ())}[dilation]
    lists = (_turned((_SHORT if long else _SIZES)[rank], turn), kernels, strides, dilations)
    for n, m, s, d in product(*lists):
        yield {"in_size": n, "kernel_size": m, "stride": s, "dilation": d}


def _specs(levels: Mapping[str, str], rank: int, fields: dict[str, Any], turn: int) -> Iterator[ConvSpec]:
    """Every padding of the wanted kind, tried."""
    size = zip(fields["in_size"], fields["kernel_size"], fields["stride"], fields["dilation"], strict=True)
    axes = [Axis(n, m, s, d=d) for n, m, s, d in size]
    extra = [_output_padding(levels, axes)] if levels["output_padding"] == "yes" else [(0,) * rank]
    for op, padding in product(extra, product(*(_turned(_sides(levels, a), turn) for a in axes))):
        try:
            yield ConvSpec(**fields, padding=padding, output_padding=op)
        except SpecError:
            continue


def _output_padding(levels: Mapping[str, str], axes: Sequence[Axis]) -> tuple[int, ...]:
    most = levels["padding"] == "same"  # only then is there something to remove
    return tuple(a.s - 1 if most else min(1, a.s - 1) for a in axes)


def _sides(levels: Mapping[str, str], a: Axis) -> list[tuple[int, int]]:
    """(low, high) that an axis may have in a padding of the wanted kind."""
    kind, e = levels["padding"], a.extent
    fill = max(0, e - a.n)  # what a kernel longer than the data needs
    if kind == "none":
        return [(0, 0)]
    if kind == "same":
        if levels["op"] == "conv_transpose":
            totals = sorted({max(0, e - a.s), max(0, e - 1)})
            return [p for t in totals for p in ((t // 2, t - t // 2), (t - t // 2, t // 2))]
        return [same_padding(a.n, a.m, a.s, a.d, upper=True), same_padding(a.n, a.m, a.s, a.d, upper=False)]
    if kind == "negative":
        return [(-1, fill + 1), (fill, -1 if not fill else 0), (-1, -1), (1, -1), (-1, 0)]
    if kind == "beyond-kernel":
        return [(e, 0), (0, e), (e, e), (1, e), (fill, fill), (0, 0), (0, e + 1)]
    even = [(p, p) for p in range(min(e, a.n))]
    if kind == "symmetric":
        return even[1:] + even[:1] if len(even) > 1 else even
    return [(1, 0), (0, 1), (0, 2), (2, 1), (1, 2), (fill, 0), (0, fill), (0, 0)]


def _proves_something(s: ConvSpec) -> bool:
    """Whether no decoy passes and small integers stay exact (the linter's rules weak and precision)."""
    if s.batch and s.accumulation_length == 0:
        return False
    if s.is_pool and s.accumulation_length == 1 and (set(s.stride) == {1} or max(s.out_size) == 1):
        return False
    return s.is_pool or s.acc_dtype != "f16" or s.accumulation_length <= MOST_F16_PRODUCTS


def _turned(items: Sequence[Any], turn: int) -> list[Any]:
    """The items, begun at another place."""
    at = turn % len(items) if items else 0
    return [*items[at:], *items[:at]]
