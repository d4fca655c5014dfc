"""The recipes: what the operands of a check hold, and why those values.

Every recipe is a function (spec, key) -> Operands. Integer-valued recipes do not depend on the
seed, so that their oracle results can be kept across runs; `SEEDED` names those that do.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, isqrt, prod

import numpy as np

from harness.data import real
from harness.data.operands import Operands
from harness.data.raw import nonzero_integers, signs, words
from harness.data.real import typed
from harness.spec import ConvSpec

Recipe = Callable[[ConvSpec, tuple[object, ...]], Operands]


def exact_budget(spec: ConvSpec) -> int:
    """The largest sum |w||x| + |b| whose every partial sum the accumulator holds exactly.

    2**p of the accumulator (NUMERICS, "Exact data"), and half the output's range, so that no output
    rounds to infinity.
    """
    return min(spec.acc_type.exact_limit, int(spec.out_type.max) // 2 if spec.out_dtype == "f16" else 2**53)


def integers(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """Small nonzero integers, as large as the accumulator sums exactly in any order.

    `key` may end with a factor (after seed, case and recipe) by which they are smaller: transforms amplify.
    """
    budget = max(4, exact_budget(spec) // (int(str(key[3])) if len(key) > 3 else 1))
    largest = spec.in_type.exact_limit
    if spec.op == "max_pool":
        top = min(largest, 2**20)
        return typed(spec, nonzero_integers(words(prod(spec.x_shape), *key, "x"), -top, top), None, None)
    bias = min(127, budget // 4)
    each = (budget - bias) // max(1, spec.accumulation_length)
    wx, ww, wb = (words(prod(s), *key, name) if s else None for name, s in _shapes(spec))
    assert wx is not None
    if spec.is_pool:
        top = min(largest, max(each, 1))
        x = nonzero_integers(wx, -top, top)
        return typed(spec, _thin(x, budget // 2) if each < 1 else x, None, None)
    assert ww is not None
    if each >= 1:
        c = min(largest, isqrt(each))
        a = min(largest, each // c)
        x, w = nonzero_integers(wx, -a, a), nonzero_integers(ww, -c, c)
    else:
        x, w = signs(wx), _thin_weights(spec, signs(ww), budget - bias)
    b = None if wb is None else nonzero_integers(wb, -bias, bias)
    return typed(spec, x, w, b)


def saturating(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """Bytes of -128 and 127 whose neighbouring products have one sign: a sum of two in 16 bits saturates.

    Weights of a pair of input channels of a group agree in sign, and so does x; Intel's `vpmaddubsw` and its like add
    such pairs. Only (-128)(-128) twice leaves 16 bits, so the first pair of every group is that. All products of a
    group's first output channel are positive but one, which makes their number odd: its sum is as large as K bytes'
    products can be, beyond 2^24 for K >= 1041, and of either parity.
    """
    assert spec.w_shape is not None
    g, per, out = spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups
    pairs = -(-per // 2)
    sign = signs(words(g * pairs, *key, "x")).reshape(g, pairs)
    both = signs(words(g * out * pairs, *key, "w")).reshape(g, out, pairs)
    sign[:, -1], both[..., -1] = 1.0, 1.0
    sign[:, 0], both[..., 0] = -1.0, -1.0
    both[:, 0] = sign
    x = np.repeat(sign, 2, axis=1)[:, :per].reshape(1, -1, *(1,) * spec.rank)
    w = np.repeat(both, 2, axis=2)[..., :per]  # (group, output, input), stored so by a convolution
    w = (w if spec.op == "conv" else w.swapaxes(1, 2)).reshape(*spec.w_shape[:2], *(1,) * spec.rank)
    full = [np.where(np.broadcast_to(a, shape) < 0, -128.0, 127.0) for a, shape in ((x, spec.x_shape), (w, spec.w_shape))]
    for group in range(g):
        first = (group * out, per - 1) if spec.op == "conv" else ((group + 1) * per - 1, 0)
        full[1][(*first, *(0,) * spec.rank)] = -128.0
    return typed(spec, full[0], full[1], _small_bias(spec, key))


def input_impulses(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """Isolated ones in x, so far apart that no output sees two; every weight a different integer.

    The output then *is* the kernel: each tap, found at its place. For max_pool the impulses stand among
    distinct negative numbers; where padding copies data, one impulse an axis may be read several times.
    """
    offset = words(spec.rank + 1, *key, "offset")
    x = np.zeros(spec.x_shape)
    if spec.op == "max_pool":
        low = -min(spec.in_type.exact_limit, 2**20)
        x[...] = nonzero_integers(words(x.size, *key, "x"), low, -1).reshape(x.shape)
    places = [
        np.arange(int(offset[i] % np.uint64(min(a.extent, a.n))), a.n, a.extent if spec.padding_mode == "zeros" else a.n)
        for i, a in enumerate(spec.axes)
    ]
    reads = 1 if spec.padding_mode == "zeros" else prod(spec.kernel_size)  # of one impulse by one output
    grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, spec.rank)
    for n in range(spec.batch):
        for j, place in enumerate(grid):
            c = (j + n + int(offset[-1] % np.uint64(spec.in_channels))) % spec.in_channels
            plane = x[n, c]
            plane[tuple(int(p) for p in place)] = 1 + (j % 7 if spec.op == "max_pool" else 0)
    if spec.is_pool:
        return typed(spec, x, None, None)
    w = _distinct(spec, spec.w_shape, key, "w", reads)
    if reads > (most := exact_budget(spec) - 100):
        w = _thin_weights(spec, w, most)
    return typed(spec, x, w, _small_bias(spec, key))


def tap_impulses(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """One tap of 1 an output channel, a different one each; every input element a different integer.

    Each output channel is then a shifted, subsampled copy of the input: a tap at a wrong place, or a
    wrong input channel, shows as wrong numbers. `key` ends with the round; rounds walk the taps.
    """
    return typed(spec, _distinct(spec, spec.x_shape, key, "x", 1), one_tap(spec, int(str(key[-1]))), _small_bias(spec, key))


def identity_tap(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """One tap of 1 an output channel, full significands in x, no bias: the output is x, bit for bit."""
    x, _, _ = real.filled(spec, key)
    return typed(spec, x, one_tap(spec, int(str(key[-1]))), np.zeros(spec.out_channels) if spec.bias else None)


def one_tap(spec: ConvSpec, start: int) -> np.ndarray:
    """Weights with a single 1 an output channel: taps number start * out_channels + m of the walk."""
    assert spec.w_shape is not None
    w = np.zeros(spec.w_shape)
    taps = prod(spec.kernel_size) * (spec.in_channels // spec.groups)
    for m in range(spec.out_channels):
        c, k = divmod(tap_order(taps, start * spec.out_channels + m), prod(spec.kernel_size))
        group, column = divmod(m, spec.out_channels // spec.groups)
        at = (group * (spec.in_channels // spec.groups) + c, column) if spec.op == "conv_transpose" else (m, c)
        w[at][np.unravel_index(k, spec.kernel_size)] = 1
    return w


def tap_order(taps: int, i: int) -> int:
    """The i-th tap of a walk over all `taps` that begins first, last, then by a stride prime to it."""
    i %= taps
    if taps <= 2 or i == 0:
        return i
    if i == 1:
        return taps - 1
    inner = taps - 2
    step = next(s for s in range(max(1, int(inner * 0.618)), inner + 1) if gcd(s, inner) == 1)
    return 1 + (i - 2) * step % inner


RECIPES: dict[str, Recipe] = {
    "integers": integers,
    "saturating": saturating,
    "input_impulses": input_impulses,
    "tap_impulses": tap_impulses,
    "identity_tap": identity_tap,
    "identity_input": real.identity_input,
    "zero_mean": real.zero_mean,
    "positive": real.positive,
    "graded": real.graded,
    "wide_range": real.wide_range,
    "denormal": real.denormal,
    "near_overflow": real.near_overflow,
}
#: Recipes whose data change with the seed: those that hold real numbers.
SEEDED = frozenset(RECIPES) - {"integers", "saturating", "input_impulses", "tap_impulses"}


def draw(recipe: str, spec: ConvSpec, case: str, seed: int, *more: object) -> Operands:
    """Operands of `recipe` for a case.

    Parameters
    ----------
    recipe : str
        A key of `RECIPES`.
    spec : ConvSpec
    case : str
        The case's id, part of the key of the random words.
    seed : int
        The run's; ignored by recipes that are not `SEEDED`.
    *more
        Further parts of the key (a round's number, a variant).

    Returns
    -------
    Operands
        C-contiguous arrays of the specification's shapes and dtypes.
    """
    return RECIPES[recipe](spec, (seed if recipe in SEEDED else "fixed", case, recipe, *more))


def _shapes(spec: ConvSpec) -> tuple[tuple[str, tuple[int, ...] | None], ...]:
    return ("x", spec.x_shape), ("w", spec.w_shape), ("b", spec.b_shape)


def _distinct(spec: ConvSpec, shape: tuple[int, ...] | None, key: tuple[object, ...], name: str, reads: int) -> np.ndarray:
    """Nonzero integers, all different where the input's type holds that many, none near its neighbours.

    Element i holds (first + i step) mod span, step prime to span: a permutation without a sort. Where values
    recur the span is prime: a power of two would make every row or channel of 2^k elements equal the last.
    `reads` is how many of them an output may sum; their sum stays within the exact budget.
    """
    assert shape is not None
    n = prod(shape)
    top = max(1, min(spec.in_type.exact_limit, (exact_budget(spec) - 100) // reads))
    span = n + 1 if n < 2 * top else _prime(2 * top)
    first, pick = (int(v % np.uint64(span)) for v in words(2, *key, name))
    step = next((s for s in range(pick // 2 + span // 4 + 1, span) if gcd(s, span) == 1), 1)
    value = (first + np.arange(n) * step) % span - span // 2
    return (value + (value >= 0)).astype(np.float64)


def _prime(most: int) -> int:
    """The largest prime up to `most`, 2 or more."""
    return next(p for p in range(most, 1, -1) if all(p % q for q in range(2, isqrt(p) + 1)))


def _small_bias(spec: ConvSpec, key: tuple[object, ...]) -> np.ndarray | None:
    return nonzero_integers(words(spec.out_channels, *key, "b"), -100, 100) if spec.bias else None


def _thin(x: np.ndarray, most: int) -> np.ndarray:
    """Keep at most `most` nonzero elements, spread evenly."""
    keep = np.zeros(x.size, bool)
    keep[:: -(-x.size // most)] = True
    return np.where(keep, x, 0.0)


def _thin_weights(spec: ConvSpec, w: np.ndarray, most: int) -> np.ndarray:
    """Keep at most `most` nonzero weights an output channel."""
    assert spec.w_shape is not None
    rows = w.reshape(spec.w_shape)
    lead = rows if spec.op == "conv" else np.moveaxis(rows, 1, 0)
    # rolled after thinning, so that the channels keep different taps
    flat = np.stack([np.roll(_thin(r.reshape(-1), most), i) for i, r in enumerate(np.ascontiguousarray(lead))])
    thin = flat.reshape(lead.shape)
    return thin if spec.op == "conv" else np.moveaxis(thin, 0, 1)
