"""Smaller specifications than a given one, the boldest steps first.

Every edit makes one thing smaller (or plainer) and nothing larger, so that a search that follows them ends. What an
edit leaves without meaning (more padding than a mode can copy, outputs that no longer exist) is trimmed along with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from harness.spec import ConvSpec, SpecError
from harness.spec.convspec import default_types

Edit = Callable[[ConvSpec], Iterator[ConvSpec]]


def smaller(value: int, least: int) -> Iterator[int]:
    """Values below `value`: the least, then ever smaller steps down.

    Examples
    --------
    >>> list(smaller(17, 1)), list(smaller(2, 1)), list(smaller(1, 1))
    ([1, 9, 13, 15, 16], [1], [])
    """
    step = value - least
    while step > 0:
        yield value - step
        step //= 2


def batch(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Fewer images, one at least."""
    for n in smaller(spec.batch, 1):
        yield from _with(spec, batch=n)


def groups(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Fewer groups of the same channels."""
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    for g in smaller(spec.groups, 1):
        yield from _with(spec, groups=g, in_channels=g * per_in, out_channels=g * per_out)


def channels(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Fewer channels a group."""
    if spec.is_pool:
        for c in smaller(spec.in_channels, 1):
            yield from _with(spec, in_channels=c, out_channels=c)
        return
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if per_in > 1 and per_out > 1:
        yield from _with(spec, in_channels=spec.groups, out_channels=spec.groups)
    for c in smaller(per_in, 1):
        yield from _with(spec, in_channels=c * spec.groups)
    for c in smaller(per_out, 1):
        yield from _with(spec, out_channels=c * spec.groups)


def axes(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Without an axis."""
    if spec.rank == 1:
        return
    for i in range(spec.rank):
        names = ("in_size", "kernel_size", "stride", "dilation", "padding", "output_padding")
        yield from _with(spec, **{n: getattr(spec, n)[:i] + getattr(spec, n)[i + 1 :] for n in names})


def whole_axis(spec: ConvSpec) -> Iterator[ConvSpec]:
    """An axis of one element."""
    trivial = {"in_size": 1, "kernel_size": 1, "stride": 1, "dilation": 1, "padding": (0, 0), "output_padding": 0}
    for i in range(spec.rank):
        changes = {n: _put(getattr(spec, n), i, v) for n, v in trivial.items()}
        if any(changes[n] != getattr(spec, n) for n in trivial):
            yield from _with(spec, **changes)


def size(spec: ConvSpec) -> Iterator[ConvSpec]:
    """A shorter input."""
    if spec.rank > 1 and max(spec.in_size) > 1:
        yield from _with(spec, in_size=tuple(-(-n // 2) for n in spec.in_size))
    yield from _each(spec, "in_size", 1)


def kernel(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Fewer taps; and the input that they no longer reach left out."""
    for i, a in enumerate(spec.axes):
        for m in smaller(a.m, 1):
            freed = (a.m - m) * a.d
            if spec.op != "conv_transpose" and a.n > freed:
                yield from _with(spec, kernel_size=_put(spec.kernel_size, i, m), in_size=_put(spec.in_size, i, a.n - freed))
            yield from _with(spec, kernel_size=_put(spec.kernel_size, i, m))


def stride(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Smaller steps."""
    if set(spec.stride) != {1}:
        yield from _with(spec, stride=(1,) * spec.rank)
    yield from _each(spec, "stride", 1)


def dilation(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Denser taps."""
    if set(spec.dilation) != {1}:
        yield from _with(spec, dilation=(1,) * spec.rank)
    yield from _each(spec, "dilation", 1)


def padding(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Less padding, and less cropping."""
    none = ((0, 0),) * spec.rank
    if spec.padding != none:
        yield from _with(spec, padding=none)
    for i, pair in enumerate(spec.padding):
        for side in (0, 1):
            sign = 1 if pair[side] > 0 else -1
            for p in smaller(abs(pair[side]), 0):
                yield from _with(spec, padding=_put(spec.padding, i, _put(pair, side, sign * p)))
    yield from _each(spec, "output_padding", 0)


def options(spec: ConvSpec) -> Iterator[ConvSpec]:
    """What is not the default, put back."""
    if spec.padding_mode != "zeros":
        yield from _with(spec, padding_mode="zeros")
    for name in ("bias", "flip", "ceil_mode", "count_include_pad"):
        if getattr(spec, name):
            yield from _with(spec, **{name: False})


def dtype(spec: ConvSpec) -> Iterator[ConvSpec]:
    """Single precision throughout, else the default types of the input's."""
    for name in dict.fromkeys(("f32", spec.in_dtype)):
        wanted = default_types(spec.op, name)
        if wanted != spec.dtypes and spec.in_dtype != "f32":
            yield from _with(spec, **dict(zip(("in_dtype", "acc_dtype", "out_dtype"), wanted, strict=True)))
    if spec.dtypes != default_types(spec.op, "f32") and spec.in_dtype == "f32":
        yield from _with(spec, acc_dtype="f32", out_dtype="f32")


#: The order of the search: what saves most first.
EDITS: tuple[Edit, ...] = (
    batch, groups, channels, axes, whole_axis, size, kernel, dtype, stride, dilation, padding, options,
)  # fmt: skip


def edits(spec: ConvSpec) -> Iterator[ConvSpec]:
    """All smaller specifications that one edit gives."""
    for edit in EDITS:
        yield from edit(spec)


def _each(spec: ConvSpec, name: str, least: int) -> Iterator[ConvSpec]:
    """One entry of a field that has one an axis, made smaller."""
    values = getattr(spec, name)
    for i, value in enumerate(values):
        for v in smaller(value, least):
            yield from _with(spec, **{name: _put(values, i, v)})


def _put(values: tuple[Any, ...], i: int, value: Any) -> tuple[Any, ...]:
    return (*values[:i], value, *values[i + 1 :])


def _with(spec: ConvSpec, **changes: Any) -> Iterator[ConvSpec]:
    """The specification changed; trimmed where it has no meaning as it is; nothing where it has none at all."""
    try:
        yield replace(spec, **changes)
        return
    except SpecError:
        pass
    try:
        yield replace(spec, **_trimmed({**spec.to_dict(), **changes}))
    except SpecError:
        return


def _trimmed(values: dict[str, Any]) -> dict[str, Any]:
    """The fields with padding, cropping and output padding cut to what the sizes allow."""
    op, mode, trimmed = values["op"], values["padding_mode"], []
    for n, m, s, d, (lo, hi), extra in zip(
        *(values[k] for k in ("in_size", "kernel_size", "stride", "dilation", "padding", "output_padding")), strict=True
    ):
        extent = (m - 1) * d + 1
        least, most = 1 - n, {"circular": n, "reflect": n - 1}.get(mode, 1 << 20)
        if op in ("max_pool", "avg_pool"):
            least, most = 0, extent - 1
        elif op == "conv_transpose":
            least, most = 0, (n - 1) * s + extent + min(extra, s - 1) - 1
        low, high = (min(max(p, least), most) for p in (lo, hi))
        if op == "conv_transpose":
            high = min(high, most - low)
        elif min(low, 0) + min(high, 0) < least:
            high = least - min(low, 0)
        trimmed.append((low, high))
    extras = tuple(min(e, s - 1) for e, s in zip(values["output_padding"], values["stride"], strict=True))
    return {**values, "padding": tuple(trimmed), "output_padding": extras}
