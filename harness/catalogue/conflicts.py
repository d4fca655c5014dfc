"""Which levels of the lattice exclude each other, each with its reason; and so which pairs are possible.

A conflict names levels of two or more factors that no specification has together. A pair is
impossible if no choice of the other factors avoids every conflict. The rules restate what
`harness.spec` refuses; a test holds them against specifications drawn at random, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from harness.catalogue.coverage import COPIED, FACTORS, Level, Pair

_POOLS = ("max_pool", "avg_pool")
_SUMS = ("conv", "conv_transpose", "avg_pool")
_COPIES = (*COPIED, "f32/f32/f32", "f64/f64/f64", "f16/f16/f16")


@dataclass(frozen=True)
class Conflict:
    """Levels that no specification has together.

    Attributes
    ----------
    reason : str
    levels : mapping of str to frozenset of str
        Two factors or more; for each, any of its levels.
    """

    reason: str
    levels: Mapping[str, frozenset[str]]

    def holds(self, chosen: Mapping[str, str]) -> bool:
        """Whether `chosen` has all of them."""
        return all(chosen.get(f) in levels for f, levels in self.levels.items())


def _conflict(reason: str, **levels: str | tuple[str, ...]) -> Conflict:
    found = {}
    for factor, value in levels.items():
        names = frozenset((value,) if isinstance(value, str) else value)
        assert names <= set(FACTORS[factor]), (factor, names)
        found[factor] = names
    return Conflict(reason, found)


def _but(factor: str, *levels: str) -> tuple[str, ...]:
    """The other levels of a factor."""
    return tuple(v for v in FACTORS[factor] if v not in levels)


CONFLICTS: tuple[Conflict, ...] = (
    # what an op has not
    _conflict("a pool has no bias", op=_POOLS, bias="yes"),
    _conflict("a pool has no weights to flip", op=_POOLS, flip="yes"),
    _conflict("a pool has no groups", op=_POOLS, groups=_but("groups", "1")),
    _conflict("a pool excludes its padding", op=_POOLS, padding_mode=_but("padding_mode", "zeros")),
    _conflict("a transposed convolution's padding removes outputs",
              op="conv_transpose", padding_mode=_but("padding_mode", "zeros")),
    _conflict("ceil_mode belongs to pools", op=_but("op", *_POOLS), ceil_mode="yes"),
    _conflict("count_include_pad belongs to avg_pool", op=_but("op", "avg_pool"), count_include_pad="yes"),
    _conflict("output padding belongs to conv_transpose", op=_but("op", "conv_transpose"), output_padding="yes"),
    _conflict("only conv takes a negative padding, a crop", op=_but("op", "conv"), padding="negative"),
    _conflict("a crop is of zero padding", padding_mode=_but("padding_mode", "zeros"), padding="negative"),
    _conflict("max_pool copies: its three types are one", op="max_pool", dtypes=_but("dtypes", *_COPIES)),
    _conflict("only max_pool copies this type unsummed", op=_SUMS, dtypes=COPIED),
    _conflict("avg_pool of i8 has no agreed rounding", op="avg_pool", dtypes="i8/i32/i32"),
    _conflict("a pool keeps its channels", op=_POOLS, in_channels="1", out_channels=_but("out_channels", "1")),
    _conflict("a pool keeps its channels", op=_POOLS, in_channels="not-8k", out_channels=_but("out_channels", "not-8k")),
    _conflict("a pool keeps its channels", op=_POOLS, in_channels="8k", out_channels=_but("out_channels", "8k")),
    # axes
    _conflict("one axis has no other to differ from", rank="1", stride="per-axis"),
    _conflict("one axis has no other to differ from", rank="1", dilation="per-axis"),
    _conflict("one axis has no other to differ from", rank="1", kernel="mixed"),
    _conflict("a stride over 1 exceeds a kernel of 1", kernel="1", stride=("uniform", "per-axis")),
    _conflict("output padding is less than the stride", output_padding="yes", stride="1"),
    # padding
    _conflict("any padding reaches beyond a kernel of 1", kernel="1", padding=("symmetric", "asymmetric", "same")),
    _conflict("without padding the kernel has to fit", op="conv", kernel="beyond-input", padding="none"),
    _conflict("without padding the kernel has to fit", op=_POOLS, kernel="beyond-input", padding="none", ceil_mode="no"),
    _conflict("the overhang of ceil_mode is less than the stride",
              op=_POOLS, kernel="beyond-input", padding="none", stride="1"),
    _conflict("a pool's window would hold no element", op=_POOLS, padding="beyond-kernel", stride="1", ceil_mode="no"),
    _conflict("the data that this mode repeats are shorter than the kernel",
              rank="1", padding_mode=("circular", "reflect"), kernel="beyond-input", padding="beyond-kernel"),
    _conflict("n s outputs need m - s + output padding to be removed",
              op="conv_transpose", rank="1", padding="same", stride="beyond-kernel", dilation="1", output_padding="no"),
    # what a specification may be, but no case: the decoys pass
    _conflict("a pool of single elements with stride 1 copies its input", op=_POOLS, kernel="1", stride="1"),
    # channels
    _conflict("one channel has one group", groups=_but("groups", "1"), in_channels="1"),
    _conflict("one channel has one group", groups=_but("groups", "1"), out_channels="1"),
    _conflict("a depthwise layer keeps its channels", groups="depthwise", in_channels="not-8k", out_channels="8k"),
    _conflict("a depthwise layer keeps its channels", groups="depthwise", in_channels="8k", out_channels="not-8k"),
    _conflict("a multiple of 8k channels is one of 8", groups="multiplier", in_channels="8k", out_channels="not-8k"),
)  # fmt: skip


def feasible(chosen: Iterable[Level]) -> bool:
    """Whether the other factors' levels can be chosen so that no conflict holds."""
    return _feasible(frozenset(chosen))


@lru_cache(200_000)
def _feasible(chosen: frozenset[Level]) -> bool:
    levels = dict(chosen)
    if any(c.holds(levels) for c in CONFLICTS):
        return False
    factor = next((f for f in FACTORS if f not in levels), None)
    return factor is None or any(_feasible(chosen | {(factor, v)}) for v in FACTORS[factor])


def why_impossible(pair: Pair) -> str | None:
    """Why no specification has both levels; None where one may.

    Examples
    --------
    >>> why_impossible((("op", "max_pool"), ("bias", "yes")))
    'a pool has no bias'
    >>> why_impossible((("bias", "yes"), ("ceil_mode", "yes")))
    'ceil_mode belongs to pools; a pool has no bias'
    """
    if feasible(pair):
        return None
    direct = _reasons(dict(pair))
    if direct:
        return direct[0]
    for factor, levels in FACTORS.items():
        if factor not in dict(pair):
            blocked = [_reasons({**dict(pair), factor: v}) for v in levels]
            if all(blocked):
                return "; ".join(dict.fromkeys(b[0] for b in blocked))
    return "no choice of the other factors avoids every conflict"


def _reasons(chosen: Mapping[str, str]) -> list[str]:
    return [c.reason for c in CONFLICTS if c.holds(chosen)]
