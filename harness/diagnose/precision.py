"""Hypotheses about rounding: of the operands, of the sums, of the result; and about small and large numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np

from harness.diagnose.evidence import Evidence, Finding, Values
from harness.diagnose.hypothesis import Variant, hypothesis
from harness.diagnose.sums import ORDERS, TERMS, Rounding, Sums
from harness.spec.host import numpy_dtype


def significant(a: np.ndarray, bits: int, *, cut: bool = False) -> np.ndarray:
    """`a` rounded to so many significant bits, to nearest even or towards zero; float64.

    Examples
    --------
    >>> significant(np.array([5.0, 7.0]), 2).tolist()
    [4.0, 8.0]
    """
    m, e = np.frexp(a)
    scaled = np.ldexp(m, bits)
    return np.ldexp(np.trunc(scaled) if cut else np.rint(scaled), e - bits)


def through(kind: object) -> Rounding:
    """Rounding to a type and back to float64."""

    def rounded(a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            found: np.ndarray = a.astype(np.dtype(kind)).astype(np.float64)  # type: ignore[call-overload]
        return found

    return rounded


def _bits(bits: int, *, cut: bool = False) -> Rounding:
    return lambda a: significant(a, bits, cut=cut)


def _two_terms(a: np.ndarray) -> np.ndarray:
    high = through(ml_dtypes.bfloat16)(a)
    return high + through(ml_dtypes.bfloat16)(a - high)


def formats(precision: int) -> list[tuple[str, Rounding]]:
    """Formats narrower than one of `precision` significant bits, the usual ones first."""
    usual: list[tuple[int, str, Rounding]] = [
        (24, "float32", through(np.float32)),
        (11, "TF32 (11 significant bits)", _bits(11)),
        (11, "float16", through(np.float16)),
        (8, "bfloat16 (8 significant bits)", _bits(8)),
        (11, "TF32, truncated", _bits(11, cut=True)),
        (8, "bfloat16, truncated", _bits(8, cut=True)),
        (16, "two bfloat16 terms (16 significant bits)", _two_terms),
        (4, "float8 (e4m3)", through(ml_dtypes.float8_e4m3fn)),
        (3, "float8 (e5m2)", through(ml_dtypes.float8_e5m2)),
    ]
    found = [(words, change) for bits, words, change in usual if bits < precision]
    known = {3, 8, 11}
    for bits in range(min(precision - 1, 28), 1, -1):
        found += [] if bits in known else [(f"{bits} significant bits", _bits(bits))]
        found += [(f"{bits} significant bits, truncated", _bits(bits, cut=True))]
    return [*found, ("integers", np.rint)] if precision > 7 else found


@hypothesis("flush_denormals")
def flush_denormals(e: Evidence) -> Iterator[Variant]:
    """Small numbers are taken for 0."""
    if not e.spec.in_type.is_float or not e.finite:
        return
    tiny, x, w = e.spec.in_type.tiny, e.model.x, e.model.w
    for words, limit in (("subnormal", tiny), *((f"below {v:g}", v) for v in (1e-30, 1e-20, 1e-12, 1e-8, 1e-6, 1e-5))):
        small = (x != 0) & (np.abs(x) < limit)
        if small.any():
            yield f"{words} elements of x taken for 0", e.model.on(np.where(small, 0.0, x))
        if w is not None and bool(np.any((w != 0) & (np.abs(w) < limit))):
            less = np.where(np.abs(w) < limit, 0.0, w)
            yield f"{words} elements of w taken for 0", replace(e.model, w=less)
            yield f"{words} elements of x and w taken for 0", replace(e.model.on(np.where(np.abs(x) < limit, 0.0, x)), w=less)
        if bool(np.any((e.right != 0) & (np.abs(e.right) < limit))):
            yield f"{words} results taken for 0", Values(np.where(np.abs(e.right) < limit, 0.0, e.right))


@hypothesis("input_precision")
def input_precision(e: Evidence) -> Iterator[Variant]:
    """Operands are rounded before they are multiplied."""
    if not e.spec.in_type.is_float or e.spec.op == "max_pool":
        return
    for words, change in formats(e.spec.in_type.precision):
        x = change(e.model.x)
        changed = e.model.on(x) if not np.array_equal(x, e.model.x) else None
        w = e.model.w
        if w is not None and not np.array_equal(rounded := change(w), w):
            if changed is not None:
                yield f"x and w rounded to {words} before they are multiplied", replace(changed, w=rounded)
            yield f"w rounded to {words} before it is multiplied", replace(e.model, w=rounded)
        if changed is not None:
            yield f"x rounded to {words} before it is {'multiplied' if w is not None else 'summed'}", changed
    if e.model.bias is not None:
        for words, change in formats(e.spec.acc_type.precision):
            if not np.array_equal(b := change(e.model.bias), e.model.bias):
                yield f"the bias rounded to {words}", replace(e.model, bias=b)
    if e.model.w is not None:
        w = np.array([float(f"{v:g}") for v in e.model.w.reshape(-1)[:20_000].tolist()])
        if w.size == e.model.w.size and not np.array_equal(w, e.model.w.reshape(-1)):
            text = np.reshape(w, e.model.w.shape)
            yield "w rounded to six decimal digits", replace(e.model, w=text)
            yield "w rounded to six decimal digits", replace(e.model, w=text.astype(np.float32).astype(np.float64))


@hypothesis("fixed_point")
def fixed_point(e: Evidence) -> Iterator[Variant]:
    """Operands are aligned to the largest of them."""
    if not e.spec.in_type.is_float or e.model.w is None or not e.finite:
        return
    for bits in (48, 32, 31, 24, 16, 15, 12, 8, 7):
        x, w = _aligned(e.model.x, bits), _aligned(e.model.w, bits)
        yield f"x and w aligned to their largest elements in {bits} bits", replace(e.model.on(x), w=w)
        yield f"x aligned to its largest element in {bits} bits", e.model.on(x)


def _aligned(a: np.ndarray, bits: int) -> np.ndarray:
    largest = float(np.max(np.abs(a), initial=0.0))
    if largest == 0.0:
        return a
    quantum = 2.0 ** max(-1000, int(np.frexp(largest)[1]) - bits)
    return np.rint(a / quantum) * quantum


@hypothesis("output_rounding")
def output_rounding(e: Evidence) -> Iterator[Variant]:
    """The result is rounded otherwise than once to the nearest number."""
    if not e.spec.out_type.is_float or not e.finite:
        return
    y = e.right
    for words, change in formats(e.spec.out_type.precision):
        yield f"results rounded to {words}", Values(change(y))
    for words, rounded in directions(e, y):
        yield f"results rounded {words}", Values(rounded)
    if e.model.bias is not None:
        bias = e.model.bias.reshape(1, -1, *(1,) * e.spec.rank)
        narrow = through(numpy_dtype(e.spec.out_dtype))
        yield "the sum rounded to the output's type before the bias is added", Values(narrow(y - bias) + bias)


def directions(e: Evidence, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """`y` rounded to the output's type in other directions than to nearest."""
    kind = numpy_dtype(e.spec.out_dtype)
    near = y.astype(kind)
    wide = near.astype(np.float64)
    with np.errstate(all="ignore"):
        down = np.where(wide > y, np.nextafter(near, np.array(-np.inf, kind)).astype(np.float64), wide)
        up = np.where(wide < y, np.nextafter(near, np.array(np.inf, kind)).astype(np.float64), wide)
    yield "towards zero", np.where(y > 0, down, up)
    yield "downward", down
    yield "upward", up


@hypothesis("accumulation_precision")
def accumulation_precision(e: Evidence) -> Iterator[Variant]:
    """Products, or sums after every addition, are rounded to fewer bits."""
    if not e.spec.acc_type.is_float or e.model.kind not in ("sum", "mean") or not e.finite:
        return
    for words, change in formats(e.spec.acc_type.precision)[:-1]:
        yield f"each product rounded to {words}", Sums(e.model, change, "products")
    if e.model.taps > TERMS:
        return
    for bits, words, change in _sums(e):
        if _short(e, bits):
            for order, text in ORDERS.items():
                yield f"sums kept in {words}{text}", Sums(e.model, change, order)


def _sums(e: Evidence) -> Iterator[tuple[int, str, Rounding]]:
    for bits, words, change in (
        (24, "float32", through(np.float32)),
        (11, "float16", through(np.float16)),
        (8, "bfloat16", through(ml_dtypes.bfloat16)),
    ):
        if bits < e.spec.acc_type.precision:
            yield bits, words, change
    for bits in range(min(e.spec.acc_type.precision - 1, 26), 3, -1):
        if bits not in (8, 11):
            yield bits, f"{bits} bits", _bits(bits)
        yield bits, f"{bits} bits, truncated", _bits(bits, cut=True)


def _short(e: Evidence, bits: int) -> bool:
    """Whether some wrong outputs hold no more bits than such sums: they may have been one."""
    points = tuple(e.suspects[:12].T)
    if bits == 11:  # float16 overflows too
        points = tuple(p[np.isfinite(e.got[points])] for p in points)
    if not len(points[0]):
        return bits == 11
    got = e.got[points]
    bias = 0.0 if e.model.bias is None else e.model.bias[points[1]]
    scale = 1.0 if e.model.divisor is None else e.model.divisor[points[2:]]
    tolerance = 2.0**-e.spec.out_type.precision * 4.0 * (np.abs(got) + np.abs(bias)) * scale
    for value in (got * scale, (got - bias) * scale):
        if np.all(np.abs(significant(value, bits) - value) <= tolerance):
            return bool(np.any(significant(value, bits - 1) != value)) or bits < 8
    return False


# --- without a prediction of every element ------------------------------------------------------------


def errors(e: Evidence) -> Finding | None:
    """What the size of the errors says, where no hypothesis has reproduced them."""
    return intermediate_overflow(e) or transform_error(e) or precision_loss(e)


def intermediate_overflow(e: Evidence) -> Finding | None:
    """Infinite where no sum of magnitudes comes near the largest number."""
    bad = e.wrong
    top = min(e.spec.acc_type.max, e.spec.out_type.max) if e.spec.out_type.is_float else 0.0
    if not top or not e.finite or np.isfinite(e.got[bad]).any() or float(np.max(e.reference.scale[bad])) > top / 2:
        return None
    n = int(np.count_nonzero(bad))
    words = f"{n} outputs overflow although their sums of magnitudes stay below half of the largest number"
    half = float(np.finfo(np.float16).max)
    narrow = np.array_equal(bad, np.abs(e.right) > half) and e.spec.out_dtype != "f16"
    cause = "all of those, and no other, exceed float16's range" if narrow else "something in between is larger"
    return Finding("intermediate_overflow", f"{words}: {cause}", False, n, n)


def transform_error(e: Evidence) -> Finding | None:
    """Right in units of the plane's largest output, wrong in units of each: a transform's error."""
    if not e.finite or not e.spec.acc_type.is_float or e.model.w is None or e.spec.out_dtype != e.spec.acc_dtype:
        return None
    err = np.abs(e.got - e.right)
    u = e.spec.acc_type.unit_roundoff
    scale = e.reference.scale
    n = int(np.count_nonzero(e.wrong))
    largest = np.max(scale, tuple(range(2, scale.ndim)), keepdims=True)
    if not np.isfinite(err).all():
        return None
    if e.tol is None:  # a direct sum of these integers is exact
        if n < 4 or bool(np.any(err > 8 * u * largest)) or not np.any(e.got != np.rint(e.got)):
            return None
        words = "errors of a few units in the last place of the largest sum, where every sum of products is exact"
        return Finding("transform_error", f"{words}: as of a transform, an FFT's or Winograd's", False, n, n)
    if float(np.max(scale)) < 64 * float(np.median(scale)) or bool(np.any(err > 64 * u * largest + e.tol)):
        return None
    reach = _reach(e)
    kind = "of a transform of tiles, Winograd's" if reach <= 8 else "of a transform of the whole, an FFT's"
    words = f"errors as {kind}: small beside the plane's largest output, not beside each ({n} outputs near large ones)"
    return Finding("transform_error", words, False, n, n)


def _reach(e: Evidence) -> int:
    """How far the outermost wrong output is from a large one, along the last axis."""
    scale = e.reference.scale
    large = scale > np.max(scale) / 16
    place = np.arange(scale.shape[-1])
    distance = np.full(scale.shape, scale.shape[-1])
    for i in range(scale.shape[-1]):
        distance = np.where(large[..., i : i + 1], np.minimum(distance, np.abs(place - i)), distance)
    found: int = int(np.max(distance[e.wrong]))
    return found


def precision_loss(e: Evidence) -> Finding | None:
    """Errors of one size, everywhere: so many bits are right."""
    if not e.finite or not e.spec.out_type.is_float or e.spec.op == "max_pool":
        return None
    wrong = e.wrong
    share = np.count_nonzero(wrong) / wrong.size
    size = np.where(e.reference.scale > 0, e.reference.scale, 1.0)
    err = np.abs(e.got - e.right)
    if wrong.sum() < 8 or share < 0.2 or not np.isfinite(err).all() or np.any(err[e.reference.scale == 0]):
        return None
    relative = err / size
    most, typical = float(np.max(relative)), float(np.sqrt(np.mean(relative[wrong] ** 2)))
    if most > 2.0**-4 or most > 64 * typical:
        return None
    bits = int(np.floor(-np.log2(typical)))
    n = int(wrong.sum())
    return Finding("precision_loss", f"errors of rounding to about {bits} bits, of no kind that was tried", False, n, n)
