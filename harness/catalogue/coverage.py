"""The parameter lattice: what a specification is, factor by factor, and which pairs of levels cases reach.

Most wrong results need two properties at once (a stride and a dilation, a type and a remainder), so
the measure of a suite is the share of *pairs of levels* that some case has: covered of possible.
What is possible is `harness.catalogue.conflicts`'s affair.

References
----------
Kuhn, Wallace, Gallo, "Software fault interactions and implications for software testing", IEEE TSE
30(6), 2004: one or two parameters trigger most failures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from harness.spec import ConvSpec
from harness.spec.convspec import DTYPE_TRIPLES, OPS, PADDING_MODES
from harness.spec.geometry import same_padding

#: A factor and one of its levels.
Level = tuple[str, str]
#: Two levels of different factors, in the order of `FACTORS`.
Pair = tuple[Level, Level]

_FLAG = ("no", "yes")
_CHANNELS = ("1", "not-8k", "8k")
#: The types that max_pool alone copies: input, accumulator and output are one.
COPIED = ("bf16/bf16/bf16", "i8/i8/i8")

#: Factor: its levels, and what each means where the name does not say it.
#: `padding` and `kernel` take the first level that holds, in the order of the functions below.
FACTORS: Mapping[str, tuple[str, ...]] = {
    "op": OPS,
    "rank": ("1", "2", "3"),
    "dtypes": (*("/".join(t) for t in DTYPE_TRIPLES), *COPIED),
    "padding_mode": PADDING_MODES,
    "padding": ("none", "symmetric", "asymmetric", "negative", "same", "beyond-kernel"),
    "stride": ("1", "uniform", "per-axis", "beyond-kernel"),
    "dilation": ("1", "uniform", "per-axis"),
    "kernel": ("1", "odd", "even", "mixed", "beyond-input"),
    "groups": ("1", "some", "depthwise", "multiplier"),
    "bias": _FLAG,
    "flip": _FLAG,
    "batch": ("0", "1", "many"),
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "output_padding": _FLAG,
    "ceil_mode": _FLAG,
    "count_include_pad": _FLAG,
}


def classify(spec: ConvSpec) -> dict[str, str]:
    """The level of every factor.

    Examples
    --------
    >>> levels = classify(ConvSpec("conv", (5, 7), (3, 3), stride=(2, 1), padding=((0, 1), (0, 0))))
    >>> levels["stride"], levels["padding"], levels["kernel"], levels["dtypes"]
    ('per-axis', 'asymmetric', 'odd', 'f32/f32/f32')
    """
    return {name: level(spec) for name, level in _LEVEL_OF.items()}


@lru_cache(4096)
def levels_of(spec: ConvSpec) -> tuple[Level, ...]:
    """`classify`, as (factor, level) in the order of `FACTORS`."""
    return tuple(classify(spec).items())


def pairs(specs: Iterable[ConvSpec]) -> Counter[Pair]:
    """How many of the specifications have each pair of levels; absent where none has."""
    return Reach(specs).pairs


def proved(levels: Iterable[Level]) -> list[Pair]:
    """The pairs that a case with these levels counts for.

    An output without elements shows nothing but that the batch may be 0: such a case counts for the
    pairs of its batch alone.
    """
    levels, empty = tuple(levels), ("batch", "0")
    found = combinations(levels, 2)
    return [p for p in found if empty in p] if empty in levels else list(found)


def every_pair() -> list[Pair]:
    """All pairs of levels of two factors, possible or not."""
    return [((f, a), (g, b)) for f, g in combinations(FACTORS, 2) for a in FACTORS[f] for b in FACTORS[g]]


@dataclass(frozen=True)
class Coverage:
    """What cases reach of the lattice.

    Attributes
    ----------
    counts : mapping of Level to int
        Cases a level, 0 included.
    covered, missing : tuple of Pair
        Of the possible pairs.
    impossible : mapping of Pair to str
        The reason for each pair that no specification has.
    """

    counts: Mapping[Level, int]
    covered: tuple[Pair, ...]
    missing: tuple[Pair, ...]
    impossible: Mapping[Pair, str]

    @property
    def share(self) -> float:
        """Covered of possible, 0 to 1."""
        return len(self.covered) / (len(self.covered) + len(self.missing))

    def between(self, one: str, other: str) -> tuple[int, int]:
        """Covered and possible pairs of two factors."""
        both = {one, other}
        covered = sum({f, g} == both for (f, _), (g, _) in self.covered)
        return covered, covered + sum({f, g} == both for (f, _), (g, _) in self.missing)


class Reach:
    """What specifications reach, counted one by one: a run of hours holds no more than the lattice.

    Attributes
    ----------
    specs : int
        How many were added.
    levels, pairs : Counter
        How many of them have each level and each pair of levels.
    """

    def __init__(self, specs: Iterable[ConvSpec] = ()) -> None:
        self.specs = 0
        self.levels: Counter[Level] = Counter()
        self.pairs: Counter[Pair] = Counter()
        for spec in specs:
            self.add(spec)

    def add(self, spec: ConvSpec) -> None:
        """Count one more."""
        levels = levels_of(spec)
        self.specs += 1
        self.levels.update(levels)
        self.pairs.update(proved(levels))


def coverage(specs: Iterable[ConvSpec] | Reach) -> Coverage:
    """What the specifications reach of the lattice.

    Examples
    --------
    >>> c = coverage([ConvSpec("conv", (5,), (3,))])
    >>> c.counts["op", "conv"], c.between("op", "rank")
    (1, (1, 12))
    """
    from harness.catalogue.conflicts import why_impossible

    reach = specs if isinstance(specs, Reach) else Reach(specs)
    counts: Counter[Level] = Counter({(f, v): 0 for f, levels in FACTORS.items() for v in levels})
    counts.update(reach.levels)
    covered, missing, impossible = [], [], {}
    for pair in every_pair():
        if reach.pairs[pair]:
            covered.append(pair)
        elif reason := why_impossible(pair):
            impossible[pair] = reason
        else:
            missing.append(pair)
    return Coverage(counts, tuple(covered), tuple(missing), impossible)


# --- the level of each factor -----------------------------------------------------------------------
def _padding(s: ConvSpec) -> str:
    """`same`: ceil(n/s) outputs (transposed: n s) from sides that differ by one at most, in one of the two readings."""
    sides = [p for pair in s.padding for p in pair]
    if min(sides) < 0:
        return "negative"
    if max(sides) == 0:
        return "none"
    if any(max(a.lo, a.hi) >= a.extent for a in s.axes):
        return "beyond-kernel"
    if s.op == "conv_transpose":
        fits = all(o == a.n * a.s for a, o in zip(s.axes, s.out_size, strict=True))
        same = fits and (all(0 <= a.hi - a.lo <= 1 for a in s.axes) or all(0 <= a.lo - a.hi <= 1 for a in s.axes))
    else:
        same = any(all((a.lo, a.hi) == same_padding(a.n, a.m, a.s, a.d, upper=u) for a in s.axes) for u in (True, False))
    if same:
        return "same"
    return "symmetric" if all(lo == hi for lo, hi in s.padding) else "asymmetric"


def _stride(s: ConvSpec) -> str:
    if any(a.s > a.m for a in s.axes):
        return "beyond-kernel"
    return _axes(s.stride)


def _axes(values: tuple[int, ...]) -> str:
    if len(set(values)) > 1:
        return "per-axis"
    return "1" if values[0] == 1 else "uniform"


def _kernel(s: ConvSpec) -> str:
    if any(a.m > a.n for a in s.axes):
        return "beyond-input"
    if len(set(s.kernel_size)) > 1:
        return "mixed"
    m = s.kernel_size[0]
    return "1" if m == 1 else ("even", "odd")[m % 2]


def _groups(s: ConvSpec) -> str:
    if s.groups == 1:
        return "1"
    if s.groups < s.in_channels:
        return "some"
    return "depthwise" if s.out_channels == s.in_channels else "multiplier"


def _channels(count: int) -> str:
    return "1" if count == 1 else "not-8k" if count % 8 else "8k"


_LEVEL_OF: Mapping[str, Callable[[ConvSpec], str]] = {
    "op": lambda s: s.op,
    "rank": lambda s: str(s.rank),
    "dtypes": lambda s: "/".join(s.dtypes),
    "padding_mode": lambda s: s.padding_mode,
    "padding": _padding,
    "stride": _stride,
    "dilation": lambda s: _axes(s.dilation),
    "kernel": _kernel,
    "groups": _groups,
    "bias": lambda s: _FLAG[s.bias],
    "flip": lambda s: _FLAG[s.flip],
    "batch": lambda s: str(s.batch) if s.batch < 2 else "many",
    "in_channels": lambda s: _channels(s.in_channels),
    "out_channels": lambda s: _channels(s.out_channels),
    "output_padding": lambda s: _FLAG[any(s.output_padding)],
    "ceil_mode": lambda s: _FLAG[s.ceil_mode],
    "count_include_pad": lambda s: _FLAG[s.count_include_pad],
}
