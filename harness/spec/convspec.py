"""`ConvSpec`: one convolution or pooling problem, validated, with every derived size.

The specification is the vocabulary that catalogue, oracle, checks and backends share. It is
frozen, needs no numpy, and refuses what cannot be computed with the numbers in the message.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any

from harness.spec import geometry
from harness.spec.dtypes import DTYPES, DType
from harness.spec.geometry import Axis

OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
PADDING_MODES = ("zeros", "circular", "reflect", "replicate")
#: Element types (input, accumulator, output) that have a meaning. The first of an input's rows is its default.
DTYPE_TRIPLES: tuple[tuple[str, str, str], ...] = (
    ("f32", "f32", "f32"),
    ("f64", "f64", "f64"),
    ("f16", "f32", "f16"),
    ("f16", "f16", "f16"),
    ("f16", "f32", "f32"),
    ("bf16", "f32", "bf16"),
    ("bf16", "f32", "f32"),
    ("f32", "f64", "f32"),
    ("i8", "i32", "i32"),
)


class SpecError(ValueError):
    """A specification that no backend could compute; the message holds the numbers."""


@dataclass(frozen=True)
class ConvSpec:
    """One convolution or pooling problem.

    Tensors are C-contiguous, axes (batch, channel, spatial...). Weights are
    (out_channels, in_channels/groups, kernel...) for `conv` and
    (in_channels, out_channels/groups, kernel...) for `conv_transpose`.

    Parameters
    ----------
    op : {'conv', 'conv_transpose', 'max_pool', 'avg_pool'}
        The operation.
    in_size, kernel_size : tuple of int
        One to three spatial axes, elements.
    batch, in_channels, out_channels, groups : int
        `out_channels` of a pool equals `in_channels`. Only the batch may be 0.
    stride, dilation : tuple of int
        An entry an axis; empty means ones. Dilation 1 is dense.
    padding : tuple of (int, int)
        (low, high) an axis; empty means none. Negative crops (`conv`, zeros mode only). In a
        transposed convolution it removes outputs.
    padding_mode : {'zeros', 'circular', 'reflect', 'replicate'}
        What lies outside the input. Pools exclude their padding instead of reading zeros.
    output_padding : tuple of int
        Extra, computed outputs at the high end of a transposed convolution.
    bias : bool
        Whether a vector of out_channels, in the accumulator's type, is added once.
    flip : bool
        False is the sum y[i] = sum_j h_j x_{i+j-1} of the lecture (cross-correlation), True the
        textbook's convolution: the stored taps are reversed along each spatial axis.
    ceil_mode, count_include_pad : bool
        Pools only; see `harness.spec.geometry.pool_size` and `divisor_counts`.
    in_dtype, acc_dtype, out_dtype : str
        Element types; empty means the input type's default (see `DTYPE_TRIPLES`).

    Raises
    ------
    SpecError
        If the combination has no meaning or an output axis would be empty.

    Examples
    --------
    >>> s = ConvSpec("conv", (7, 9), (3, 3), out_channels=4, stride=(2, 2), padding=((1, 1), (1, 1)))
    >>> s.out_shape, s.accumulation_length
    ((1, 4, 4, 5), 9)
    """

    op: str
    in_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    batch: int = 1
    in_channels: int = 1
    out_channels: int = 0
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    padding_mode: str = "zeros"
    dilation: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    bias: bool = False
    flip: bool = False
    ceil_mode: bool = False
    count_include_pad: bool = False
    in_dtype: str = "f32"
    acc_dtype: str = ""
    out_dtype: str = ""

    def __post_init__(self) -> None:
        """Fill the defaults that depend on other fields, then validate."""
        from harness.spec.validate import entries, pairs, validate

        put = object.__setattr__
        put(self, "in_size", entries(self, "in_size"))
        rank = len(self.in_size)
        put(self, "kernel_size", entries(self, "kernel_size"))
        put(self, "stride", entries(self, "stride") or (1,) * rank)
        put(self, "dilation", entries(self, "dilation") or (1,) * rank)
        put(self, "padding", pairs(self, "padding") or ((0, 0),) * rank)
        put(self, "output_padding", entries(self, "output_padding") or (0,) * rank)
        if type(self.out_channels) is int and self.out_channels == 0:
            put(self, "out_channels", self.in_channels if self.is_pool else 1)
        for name, default in zip(("acc_dtype", "out_dtype"), default_types(self.op, self.in_dtype)[1:], strict=True):
            given = getattr(self, name)
            put(self, name, default if isinstance(given, str) and not given else given)
        validate(self)

    # --- what kind of problem -------------------------------------------------------------
    @property
    def is_pool(self) -> bool:
        """Whether the operation has no weights."""
        return self.op in ("max_pool", "avg_pool")

    @property
    def rank(self) -> int:
        """Number of spatial axes, 1 to 3."""
        return len(self.in_size)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The spatial axes, outermost first."""
        return tuple(
            Axis(n, m, s, p[0], p[1], d, op)
            for n, m, s, p, d, op in zip(
                self.in_size, self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding, strict=True
            )
        )

    @property
    def dtypes(self) -> tuple[str, str, str]:
        """Names of the input, accumulator and output types."""
        return self.in_dtype, self.acc_dtype, self.out_dtype

    @property
    def in_type(self) -> DType:
        """The input's (and the weights') element type."""
        return DTYPES[self.in_dtype]

    @property
    def acc_type(self) -> DType:
        """The accumulator's (and the bias') element type."""
        return DTYPES[self.acc_dtype]

    @property
    def out_type(self) -> DType:
        """The output's element type."""
        return DTYPES[self.out_dtype]

    # --- shapes ---------------------------------------------------------------------------
    @cached_property
    def out_size(self) -> tuple[int, ...]:
        """Spatial size of the output, elements."""
        if self.op == "conv_transpose":
            return tuple(geometry.transpose_size(a) for a in self.axes)
        if self.is_pool:
            return tuple(geometry.pool_size(a, ceil_mode=self.ceil_mode) for a in self.axes)
        return tuple(geometry.conv_size(a) for a in self.axes)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input, (batch, in_channels, in_size...)."""
        return (self.batch, self.in_channels, *self.in_size)

    @property
    def w_shape(self) -> tuple[int, ...] | None:
        """Shape of the weights, None for a pool."""
        if self.is_pool:
            return None
        if self.op == "conv_transpose":
            return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def b_shape(self) -> tuple[int, ...] | None:
        """Shape of the bias, None where there is none."""
        return (self.out_channels,) if self.bias else None

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output, (batch, out_channels, out_size...)."""
        return (self.batch, self.out_channels, *self.out_size)

    # --- cost -----------------------------------------------------------------------------
    @property
    def tap_counts(self) -> tuple[tuple[int, ...], ...]:
        """For each axis and output position, the taps that read data and not zero padding.

        In the padding modes that copy data every tap counts. The accumulation length of an output
        is (in_channels/groups) times the product of its axes' entries; for a pool the product alone.
        """
        if self.op == "conv_transpose":
            return tuple(geometry.transpose_tap_counts(a, o) for a, o in zip(self.axes, self.out_size, strict=True))
        if self.padding_mode != "zeros":
            return tuple((a.m,) * o for a, o in zip(self.axes, self.out_size, strict=True))
        return tuple(geometry.conv_tap_counts(a, o) for a, o in zip(self.axes, self.out_size, strict=True))

    @property
    def divisor_counts(self) -> tuple[tuple[int, ...], ...]:
        """For each axis and output position, the factor of an average pool's divisor.

        With `count_include_pad` taps at positions in [-lo, n+hi) count, the overhang of `ceil_mode`
        never; without it only taps on data, in [0, n).
        """
        if not self.count_include_pad:
            return self.tap_counts
        return tuple(
            geometry.conv_tap_counts(a, o, low=-a.lo, high=a.n + a.hi) for a, o in zip(self.axes, self.out_size, strict=True)
        )

    @property
    def channel_taps(self) -> int:
        """Input channels that one output reads."""
        return 1 if self.is_pool else self.in_channels // self.groups

    @property
    def accumulation_length(self) -> int:
        """K: the most products (for pools, elements) that any one output sums."""
        if not self.is_pool and self.padding_mode != "zeros":
            return self.channel_taps * prod(self.kernel_size)
        most = geometry.most_transpose_taps if self.op == "conv_transpose" else geometry.most_conv_taps
        return self.channel_taps * prod(most(a, o) for a, o in zip(self.axes, self.out_size, strict=True))

    @property
    def macs(self) -> int:
        """Multiply-accumulates that touch data (padding excluded); for pools, elements read."""
        if not self.is_pool and self.padding_mode != "zeros":
            pairs = prod(self.kernel_size) * prod(self.out_size)
        else:
            count = geometry.transpose_pairs if self.op == "conv_transpose" else geometry.conv_pairs
            pairs = prod(count(a, o) for a, o in zip(self.axes, self.out_size, strict=True))
        return self.batch * self.out_channels * self.channel_taps * pairs

    @property
    def flops(self) -> int:
        """Operations: 2 a multiply-accumulate, 1 an output for the bias; 1 an element read for a pool."""
        extra = prod(self.out_shape) if self.bias or self.op == "avg_pool" else 0
        return (self.macs if self.is_pool else 2 * self.macs) + extra

    @property
    def bytes(self) -> int:
        """Compulsory traffic: every operand and the output once."""
        total = prod(self.x_shape) * self.in_type.itemsize + prod(self.out_shape) * self.out_type.itemsize
        if self.w_shape is not None:
            total += prod(self.w_shape) * self.in_type.itemsize
        return total + (self.out_channels * self.acc_type.itemsize if self.bias else 0)

    # --- as data --------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Every field, complete, in JSON's types but for tuples."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConvSpec:
        """Build a specification from `to_dict`'s form or from its JSON.

        Raises
        ------
        SpecError
            On an unknown or missing field or an impossible combination.
        """
        known = {f.name for f in fields(cls)}
        if unknown := set(values) - known:
            raise SpecError(f"unknown field {sorted(unknown)[0]!r}: the fields are {', '.join(sorted(known))}")
        tuples: dict[str, Any] = {
            k: tuple(tuple(e) if isinstance(e, list | tuple) else e for e in v) if isinstance(v, list | tuple) else v
            for k, v in values.items()
        }
        required = [f.name for f in fields(cls) if f.default is MISSING]
        if missing := [name for name in required if name not in values]:
            raise SpecError(f"{missing[0]} is missing: a specification needs {', '.join(required)}")
        return cls(**tuples)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name this specification's content."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def lifted(self) -> ConvSpec:
        """The same problem on three spatial axes, with axes of length 1 in front.

        Arrays keep their memory; only their shapes gain ones.

        Examples
        --------
        >>> ConvSpec("conv", (5,), (3,)).lifted().kernel_size
        (1, 1, 3)
        """
        k = 3 - self.rank
        return replace(
            self,
            in_size=(1,) * k + self.in_size,
            kernel_size=(1,) * k + self.kernel_size,
            stride=(1,) * k + self.stride,
            dilation=(1,) * k + self.dilation,
            padding=((0, 0),) * k + self.padding,
            output_padding=(0,) * k + self.output_padding,
        )

    def __str__(self) -> str:
        """One line: op, shapes and what is not the default."""
        parts = [self.op, f"x{list(self.x_shape)}"]
        parts.append(f"w{list(self.w_shape)}" if self.w_shape else f"k{list(self.kernel_size)}")
        ones, zeros = (1,) * self.rank, (0,) * self.rank
        if self.stride != ones:
            parts.append(f"s{list(self.stride)}")
        if any(p != (0, 0) for p in self.padding):
            parts.append(f"p{[list(p) for p in self.padding]}")
        if self.padding_mode != "zeros":
            parts.append(self.padding_mode)
        if self.dilation != ones:
            parts.append(f"d{list(self.dilation)}")
        if self.output_padding != zeros:
            parts.append(f"op{list(self.output_padding)}")
        parts += [f"g{self.groups}"] if self.groups > 1 else []
        parts += [n for n in ("bias", "flip", "ceil_mode", "count_include_pad") if getattr(self, n)]
        parts.append("/".join(dict.fromkeys(self.dtypes)))
        return " ".join(parts)


def default_types(op: str, in_dtype: str) -> tuple[str, str, str]:
    """Input, accumulator and output type where the specification names only the input's.

    Examples
    --------
    >>> default_types("conv", "f16"), default_types("max_pool", "i8")
    (('f16', 'f32', 'f16'), ('i8', 'i8', 'i8'))
    """
    if op != "max_pool":
        for triple in DTYPE_TRIPLES:
            if triple[0] == in_dtype:
                return triple
    return in_dtype, in_dtype, in_dtype
