"""Worked numbers: their shape and exactness, and the definition evaluated on them.

The evaluator is the formula of NUMERICS, "Semantics, completed", in Python integers and
fractions: slow, exact, and sharing nothing with the oracle or any backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from harness.catalogue.case import Literal, Numbers
from harness.spec import ConvSpec

#: Numbers in one literal tensor; more belongs to a data recipe.
MAX_NUMBERS = 4096


def literal(x: Any, w: Any, b: Any, y: Any, spec: ConvSpec) -> Literal:
    """Check worked numbers against the specification's shapes.

    Raises
    ------
    ValueError
        The message begins with the tensor's name.
    """
    tensors = {}
    for name, value, shape in (
        ("x", x, spec.x_shape),
        ("w", w, spec.w_shape),
        ("b", b, spec.b_shape),
        ("y", y, spec.out_shape),
    ):
        if (value is None) != (shape is None):
            raise ValueError(f"{name} is {'missing' if value is None else 'given'}, the case has shape {shape} for it")
        tensors[name] = None if value is None or shape is None else tensor(name, value, shape)
    assert tensors["x"] is not None
    assert tensors["y"] is not None
    return Literal(tensors["x"], tensors["w"], tensors["b"], tensors["y"])


def tensor(name: str, value: Any, shape: tuple[int, ...]) -> Numbers:
    """Nested lists as nested tuples of exactly `shape`, leading axes of length 1 added."""
    if prod(shape) > MAX_NUMBERS:
        raise ValueError(f"{name} of shape {list(shape)} is too large to be written out")
    got: list[int] = []
    inner = value
    while isinstance(inner, list):
        got.append(len(inner))
        inner = inner[0] if inner else None
    missing = len(shape) - len(got)
    if missing < 0 or any(n != 1 for n in shape[:missing]) or tuple(got) != shape[missing:]:
        raise ValueError(f"{name} has shape {got}, the case {list(shape)}: only leading axes of length 1 may be left out")
    for _ in range(missing):
        value = [value]
    return frozen(name, value, shape)


def frozen(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Nested lists of exact numbers as nested tuples of exactly `shape`; a ValueError that names `name` otherwise."""
    if not shape:
        if type(value) is int:
            return value
        if not isinstance(value, float):
            raise ValueError(f"{name} holds {value!r}: it takes numbers")
        if Fraction(repr(value)) != Fraction(value):
            raise ValueError(f"{name} holds {value!r}, which is no integer or dyadic fraction: no float equals it")
        return value
    if not isinstance(value, list) or len(value) != shape[0]:
        raise ValueError(f"{name} is ragged: a list of {shape[0]} was expected, got {value!r:.60}")
    return tuple(frozen(name, v, shape[1:]) for v in value)


def pick(tensor: Any, index: tuple[int, ...]) -> Any:
    """The element of a nested tuple at `index`."""
    for i in index:
        tensor = tensor[i]
    return tensor


def source(i: int, n: int, mode: str) -> int | None:
    """The input position that position `i` of the padded axis shows; None for a zero.

    Examples
    --------
    >>> [source(-2, 5, m) for m in ("zeros", "circular", "reflect", "replicate")]
    [None, 3, 2, 0]
    """
    if 0 <= i < n:
        return i
    if mode == "circular":
        return i % n
    if mode == "reflect":
        return -i if i < 0 else 2 * (n - 1) - i
    if mode == "replicate":
        return 0 if i < 0 else n - 1
    return None


def evaluate(lit: Literal, spec: ConvSpec) -> dict[tuple[int, ...], Fraction]:
    """The output that the definition gives for the literal's operands, exactly, by index."""
    return {o: _element(lit, spec, o) for o in product(*map(range, spec.out_shape))}


def _element(lit: Literal, spec: ConvSpec, out: tuple[int, ...]) -> Fraction:
    """One output."""
    batch, channel, at = out[0], out[1], out[2:]
    if spec.is_pool:
        seen = [Fraction(pick(lit.x, (batch, channel, *p))) for _, p in _reads(spec, at)]
        if spec.op == "max_pool":
            return max(seen)
        return sum(seen, Fraction(0)) / prod(c[o] for c, o in zip(spec.divisor_counts, at, strict=True))
    total = Fraction(pick(lit.b, (channel,))) if lit.b is not None else Fraction(0)
    for x_at, w_at in terms(spec, out):
        total += Fraction(pick(lit.x, x_at)) * Fraction(pick(lit.w, w_at))
    return total


def terms(spec: ConvSpec, out: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(input index, weight index) of every product that the definition sums into output `out`; not for pools."""
    batch, channel, at = out[0], out[1], out[2:]
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    group = channel // per_out
    for taps, p in _reads(spec, at):
        for c in range(per_in):
            c_in = group * per_in + c
            w_at = (c_in, channel % per_out) if spec.op == "conv_transpose" else (channel, c)
            yield (batch, c_in, *p), (*w_at, *taps)


def _reads(spec: ConvSpec, at: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(stored tap, input position) of every product in the output at `at`."""
    axes = []
    for a, o in zip(spec.axes, at, strict=True):
        pairs = []
        for k in range(a.m):
            tap = a.m - 1 - k if spec.flip else k
            if spec.op == "conv_transpose":
                i, left = divmod(o + a.lo - k * a.d, a.s)
                position = i if left == 0 and 0 <= i < a.n else None
            else:
                position = source(o * a.s - a.lo + k * a.d, a.n, spec.padding_mode)
            if position is not None:
                pairs.append((tap, position))
        axes.append(pairs)
    for chosen in product(*axes):
        yield tuple(t for t, _ in chosen), tuple(p for _, p in chosen)
