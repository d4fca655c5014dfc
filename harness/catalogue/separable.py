"""Separable convolutions in both senses, worked out pass by pass in exact arithmetic.

*In space*: a kernel that is the outer product of a vector an axis is as many 1-D passes. *In
channels*: a dense kernel w[o, c] = p[o, c] d[c] is a depthwise pass with d and a pointwise (1x1)
pass with p, the layer of MobileNets. A literal case tagged `separable` or `depthwise-separable`
claims one of them; the linter takes its kernel apart and holds the passes against its y.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import Any

from harness.catalogue.case import Case, Literal, Numbers
from harness.catalogue.literals import evaluate, pick
from harness.spec import ConvSpec

#: A pass: the problem and its weights.
Pass = tuple[ConvSpec, Numbers]


def findings(case: Case) -> Iterator[str]:
    """What is wrong with a case's claim to be separable; the linter's rule."""
    lit, s = case.literal, case.spec
    for tag, split in (("separable", in_space), ("depthwise-separable", in_channels)):
        if tag not in case.tags:
            continue
        if lit is None or s is None or lit.w is None:
            yield f"tagged {tag}: it shows so with literal numbers"
        elif (passes := split(s, lit.w)) is None:
            yield f"tagged {tag}: its kernel is no such product"
        elif composed(passes, lit) != evaluate(lit, s):
            yield f"tagged {tag}: the passes, one after the other, give another output"


def composed(passes: Sequence[Pass], lit: Literal) -> dict[tuple[int, ...], Fraction]:
    """The output of the passes, each on the output of the one before; the bias is added by the last."""
    x, values = lit.x, dict[tuple[int, ...], Fraction]()
    for i, (spec, w) in enumerate(passes):
        last = i == len(passes) - 1
        step = replace(spec, bias=spec.bias and last)
        values = evaluate(Literal(x, w, lit.b if step.bias else None, ()), step)
        x = _nested(values, step.out_shape)
    return values


def in_space(spec: ConvSpec, w: Numbers) -> list[Pass] | None:
    """A 1-D pass for each axis, the first from input to output channels; None where the kernel is no outer product.

    Each output channel reads one input channel: a sum over channels of outer products is none itself.
    """
    if spec.channel_taps != 1:
        return None
    filters = [kernel for row in w for kernel in row]  # one an output channel, in order, for both layouts of weights
    vectors = [outer_factors(kernel, spec.kernel_size) for kernel in filters]
    passes = []
    for axis in range(spec.rank):
        along = []
        for found in vectors:
            if found is None:
                return None
            along.append(_line(found[axis], axis, spec.rank))
        step, rows = _only(spec, axis), len(w)
        if axis:  # the channels are spread by the first pass
            rows = spec.out_channels
            step = replace(step, in_channels=rows, groups=rows)
        passes.append((step, _rows(along, rows)))
    return passes


def in_channels(spec: ConvSpec, w: Numbers) -> list[Pass] | None:
    """The depthwise pass and the pointwise pass of a dense convolution; None where its kernel is no such product."""
    if spec.op != "conv" or spec.groups != 1 or spec.in_channels == 1:
        return None
    depthwise, pointwise = [], [[Fraction(0)] * spec.in_channels for _ in range(spec.out_channels)]
    taps = list(product(*map(range, spec.kernel_size)))
    for c in range(spec.in_channels):
        model = next((w[o][c] for o in range(spec.out_channels) if any(pick(w[o][c], t) for t in taps)), w[0][c])
        pivot = next((t for t in taps if pick(model, t)), taps[0])
        for o in range(spec.out_channels):
            factor = Fraction(pick(w[o][c], pivot)) / (pick(model, pivot) or 1)
            if any(pick(w[o][c], t) != factor * pick(model, t) for t in taps):
                return None
            pointwise[o][c] = factor
        depthwise.append((model,))
    ones = (1,) * spec.rank
    first = replace(spec, out_channels=spec.in_channels, groups=spec.in_channels)
    second = ConvSpec(
        "conv", spec.out_size, ones, spec.batch, spec.in_channels, spec.out_channels, bias=spec.bias, in_dtype=spec.in_dtype
    )
    return [(first, tuple(depthwise)), (second, tuple(tuple(_line([p], 0, spec.rank) for p in row) for row in pointwise))]


def outer_factors(kernel: Any, size: tuple[int, ...]) -> list[list[Fraction]] | None:
    """A vector an axis whose outer product is `kernel`, exactly; None where there is none.

    Examples
    --------
    >>> [[int(v) for v in line] for line in outer_factors(((2, 4), (3, 6)), (2, 2))]
    [[2, 3], [1, 2]]
    >>> outer_factors(((1, 0), (0, 1)), (2, 2)) is None
    True
    """
    taps = list(product(*map(range, size)))
    pivot = next((t for t in taps if pick(kernel, t)), taps[0])
    unit = Fraction(pick(kernel, pivot)) or Fraction(1)
    lines = []
    for axis, m in enumerate(size):
        line = [Fraction(pick(kernel, (*pivot[:axis], i, *pivot[axis + 1 :]))) for i in range(m)]
        lines.append(line if axis == 0 else [v / unit for v in line])
    exact = all(
        reduce(lambda a, b: a * b, (line[i] for line, i in zip(lines, t, strict=True))) == pick(kernel, t) for t in taps
    )
    return lines if exact else None


def _only(spec: ConvSpec, axis: int) -> ConvSpec:
    """The problem along one axis: every other has a kernel of 1 and is left as it is."""
    keep: dict[str, Any] = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": (0, 0), "output_padding": 0}
    values: dict[str, Any] = {
        name: tuple(v if i == axis else idle for i, v in enumerate(getattr(spec, name))) for name, idle in keep.items()
    }
    size = tuple(o if i < axis else n for i, (n, o) in enumerate(zip(spec.in_size, spec.out_size, strict=True)))
    return replace(spec, in_size=size, **values)


def _line(values: Sequence[Fraction], axis: int, rank: int) -> Any:
    """The values along one axis of a kernel that is 1 wide along the others."""
    nested: Any = tuple(_wrapped(v, rank - axis - 1) for v in values)
    return _wrapped(nested, axis)


def _wrapped(value: Any, times: int) -> Any:
    for _ in range(times):
        value = (value,)
    return value


def _rows(items: Sequence[Any], rows: int) -> Numbers:
    each = len(items) // rows
    return tuple(tuple(items[i * each : (i + 1) * each]) for i in range(rows))


def _nested(values: dict[tuple[int, ...], Fraction], shape: tuple[int, ...], at: tuple[int, ...] = ()) -> Any:
    if len(at) == len(shape):
        return values[at]
    return tuple(_nested(values, shape, (*at, i)) for i in range(shape[len(at)]))
