"""Why a specification is refused. Each rule is a function that raises with the numbers.

Apart from `convspec` so that the rules read as a list, one by one, in the order of their need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from harness.spec.geometry import first_empty_window

if TYPE_CHECKING:
    from harness.spec.convspec import ConvSpec


def validate(s: ConvSpec) -> None:
    """Raise `SpecError` on the first rule that `s` breaks."""
    for rule in (
        _known_names, _axis_counts, _integers, _positive, _channels, _types, _pool_only,
        _transpose_only, _padding_rules, _pool_padding, _output_not_empty, _pool_windows,
    ):  # fmt: skip
        rule(s)


def entries(s: ConvSpec, name: str) -> tuple[Any, ...]:
    """The field `name` as a tuple, or `SpecError` if it is no sequence."""
    value = getattr(s, name)
    if isinstance(value, str | bytes):
        _refuse(f"{name} is {value!r}: it takes a tuple, an entry an axis")
    try:
        return tuple(value)
    except TypeError:
        _refuse(f"{name} is {value!r}: it takes a tuple, an entry an axis")


def pairs(s: ConvSpec, name: str) -> tuple[tuple[Any, Any], ...]:
    """The field `name` as a tuple of (low, high) pairs, or `SpecError`."""
    found = []
    for e in entries(s, name):
        if not isinstance(e, tuple | list) or len(e) != 2:
            _refuse(f"{name} holds {e!r}: it takes a pair (low, high) an axis")
        found.append((e[0], e[1]))
    return tuple(found)


def _refuse(message: str) -> NoReturn:
    from harness.spec.convspec import SpecError

    raise SpecError(message)


def _known_names(s: ConvSpec) -> None:
    from harness.spec.convspec import OPS, PADDING_MODES
    from harness.spec.dtypes import DTYPES

    if s.op not in OPS:
        _refuse(f"unknown op {s.op!r}: the ops are {', '.join(OPS)}")
    if s.padding_mode not in PADDING_MODES:
        _refuse(f"unknown padding_mode {s.padding_mode!r}: the modes are {', '.join(PADDING_MODES)}")
    for role, name in zip(("in_dtype", "acc_dtype", "out_dtype"), s.dtypes, strict=True):
        if not isinstance(name, str) or name not in DTYPES:
            _refuse(f"unknown {role} {name!r}: the dtypes are {', '.join(DTYPES)}")


def _axis_counts(s: ConvSpec) -> None:
    if not 1 <= s.rank <= 3:
        _refuse(f"in_size has {s.rank} axes: convolutions here have 1 to 3 spatial axes")
    for name in ("kernel_size", "stride", "dilation", "padding", "output_padding"):
        got = len(getattr(s, name))
        if got != s.rank:
            _refuse(f"{name} has {got} entries, in_size has {s.rank} axes: give one entry an axis")


def _integers(s: ConvSpec) -> None:
    for name in ("in_size", "kernel_size", "stride", "dilation", "output_padding", "padding"):
        for e in getattr(s, name):
            for v in e if name == "padding" else (e,):
                if type(v) is not int:
                    _refuse(f"{name} holds {v!r}: it takes integers")
                if abs(v) > 2**31:
                    _refuse(f"{name} holds {v}: sizes end at 2**31")
    for name in ("batch", "in_channels", "out_channels", "groups"):
        v = getattr(s, name)
        if type(v) is not int:
            _refuse(f"{name} is {v!r}: it takes an integer")
        if abs(v) > 2**31:
            _refuse(f"{name} is {v}: sizes end at 2**31")
    for name in ("bias", "flip", "ceil_mode", "count_include_pad"):
        if type(v := getattr(s, name)) is not bool:
            _refuse(f"{name} is {v!r}: it is True or False")


def _positive(s: ConvSpec) -> None:
    if s.batch < 0:
        _refuse(f"batch is {s.batch}: it is 0 or more")
    for name in ("in_channels", "out_channels", "groups"):
        if getattr(s, name) < 1:
            _refuse(f"{name} is {getattr(s, name)}: it is 1 or more (only the batch may be 0)")
    for name in ("in_size", "kernel_size", "stride", "dilation"):
        if min(getattr(s, name)) < 1:
            _refuse(f"{name} is {list(getattr(s, name))}: every entry is 1 or more")


def _channels(s: ConvSpec) -> None:
    for name in ("in_channels", "out_channels"):
        if getattr(s, name) % s.groups:
            _refuse(f"groups {s.groups} does not divide {name} {getattr(s, name)}")
    if s.is_pool:
        if s.out_channels != s.in_channels:
            _refuse(f"a pool keeps its channels: in_channels {s.in_channels}, out_channels {s.out_channels}")
        if s.groups != 1:
            _refuse(f"a pool has no groups: got {s.groups}")


def _types(s: ConvSpec) -> None:
    from harness.spec.convspec import DTYPE_TRIPLES

    got = "/".join(s.dtypes)
    if s.op == "max_pool":
        if len(set(s.dtypes)) != 1 or s.in_dtype == "i32":
            _refuse(
                f"max_pool copies elements: input, accumulator and output type are one of f16, bf16, f32, f64, i8; got {got}"
            )
    elif s.dtypes not in DTYPE_TRIPLES:
        _refuse(
            f"no arithmetic is defined for input/accumulator/output {got}: "
            f"the triples are {', '.join('/'.join(t) for t in DTYPE_TRIPLES)}"
        )
    elif s.op == "avg_pool" and s.in_dtype == "i8":
        _refuse("avg_pool of i8 has no agreed rounding of its quotient: use a floating-point dtype")


def _pool_only(s: ConvSpec) -> None:
    if not s.is_pool and s.ceil_mode:
        _refuse(f"ceil_mode belongs to pools, the op is {s.op}")
    if s.op != "avg_pool" and s.count_include_pad:
        _refuse(f"count_include_pad belongs to avg_pool, the op is {s.op}")
    if s.is_pool and s.bias:
        _refuse(f"{s.op} has no bias")
    if s.is_pool and s.flip:
        _refuse(f"{s.op} has no weights to flip")


def _transpose_only(s: ConvSpec) -> None:
    for i, (op, st) in enumerate(zip(s.output_padding, s.stride, strict=True)):
        if s.op != "conv_transpose" and op:
            _refuse(f"output_padding belongs to conv_transpose, the op is {s.op}")
        if not 0 <= op < st:
            _refuse(f"output_padding {op} on axis {i}: it is at least 0 and less than the stride, {st}")
    if s.op == "conv_transpose" and s.padding_mode != "zeros":
        _refuse(f"conv_transpose removes outputs by its padding: padding_mode {s.padding_mode!r} has no meaning")


def _padding_rules(s: ConvSpec) -> None:
    limits = {"reflect": lambda n: n - 1, "circular": lambda n: n}
    for i, (n, (lo, hi)) in enumerate(zip(s.in_size, s.padding, strict=True)):
        if min(lo, hi) < 0:
            if s.op != "conv" or s.padding_mode != "zeros":
                _refuse(f"padding ({lo}, {hi}) on axis {i}: only conv with zeros takes negative padding, a crop")
            if n + min(lo, 0) + min(hi, 0) < 1:
                _refuse(f"padding ({lo}, {hi}) on axis {i} crops all {n} elements")
        if s.padding_mode in limits:
            most = limits[s.padding_mode](n)
            if max(lo, hi) > most:
                _refuse(f"{s.padding_mode} padding ({lo}, {hi}) on axis {i} of {n} elements: it reaches at most {most}")


def _pool_padding(s: ConvSpec) -> None:
    if s.is_pool and s.padding_mode != "zeros":
        _refuse(f"{s.op} excludes its padding: padding_mode {s.padding_mode!r} has no meaning")


def _output_not_empty(s: ConvSpec) -> None:
    for i, (a, out) in enumerate(zip(s.axes, s.out_size, strict=True)):
        if out >= 1:
            continue
        if s.op == "conv_transpose":
            _refuse(
                f"axis {i} has no output: ({a.n}-1)*{a.s} - {a.lo} - {a.hi} + {a.extent} + {a.op} = {out}; "
                "padding removes everything"
            )
        _refuse(
            f"axis {i} has no output: the kernel spans {a.extent} (size {a.m}, dilation {a.d}), "
            f"the padded input {a.n} + {a.lo} + {a.hi} = {a.n + a.lo + a.hi}"
        )


def _pool_windows(s: ConvSpec) -> None:
    """Every window must hold a real element, axis by axis."""
    if not s.is_pool:
        return
    for i, (a, out) in enumerate(zip(s.axes, s.out_size, strict=True)):
        if (o := first_empty_window(a, out)) is not None:
            start = o * a.s - a.lo
            _refuse(
                f"{s.op}: window {o} of axis {i} starts at {start} with {a.m} taps {a.d} apart "
                f"and holds no element of [0, {a.n})"
            )
