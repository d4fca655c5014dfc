"""Hypotheses about pools, and about values that are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from harness.diagnose.evidence import Evidence, Values
from harness.diagnose.hypothesis import Variant, hypothesis, letters
from harness.diagnose.model import outer
from harness.spec.geometry import conv_tap_counts


@hypothesis("max_identity_zero")
def max_identity_zero(e: Evidence) -> Iterator[Variant]:
    """The running maximum does not start from minus infinity."""
    if e.model.kind != "max":
        return
    yield "the running maximum started from 0", Values(np.maximum(e.right, 0.0))
    padded = e.model.padded.copy()
    for axis in range(e.spec.rank):
        np.moveaxis(padded, 2 + axis, 0)[-1] = 0.0
    yield "padding counted as 0 in the maximum", replace(e.model, padded=padded)
    if e.spec.in_type.is_float:
        yield "the running maximum started from the smallest positive number", Values(np.maximum(e.right, e.spec.in_type.tiny))
        for low in (-1.0, -128.0, -1e3, -1e4, -65504.0, -1e5, -1e6):
            yield f"the running maximum started from {low:g}", Values(np.maximum(e.right, low))


@hypothesis("nan_dropped")
def nan_dropped(e: Evidence) -> Iterator[Variant]:
    """NaN are lost."""
    if e.finite:
        return
    x = e.model.x
    if e.model.kind == "max":
        yield "NaN ignored by the maximum", replace(e.model, kind="fmax")
    if np.isnan(x).any():
        yield "NaN of the input taken for 0", e.model.on(np.where(np.isnan(x), 0.0, x))


@hypothesis("nan_spread")
def nan_spread(e: Evidence) -> Iterator[Variant]:
    """A NaN reaches outputs that do not read it: something is multiplied by 0."""
    if e.finite or e.model.w is None:
        return
    for i, a in enumerate(e.spec.axes):
        for by, words in ((1, "after the last"), (-1, "before the first")):
            axes = [replace(b, lo=b.lo + (by < 0) * b.d, m=b.m + 1) if j == i else b for j, b in enumerate(e.spec.axes)]
            w = np.concatenate([e.model.w, np.zeros_like(e.model.w.take([0], 2 + i))], 2 + i)
            w = w if by > 0 else np.roll(w, 1, 2 + i)
            along = letters(e.spec.rank)[i]
            yield f"a tap {words} read along {along} and multiplied by 0", replace(e.model.laid_out(axes), w=w)
        del a
    yield from _spread(e)


def _spread(e: Evidence) -> Iterator[Variant]:
    """NaN spread by rolled outputs, over rows, planes, groups or everything."""
    bad = np.isnan(e.right)
    for i in range(e.spec.rank):
        for by in (1, -1):
            words = (
                f"NaN also in the output {'after' if by > 0 else 'before'} each along {letters(e.spec.rank)[i]}, going round"
            )
            yield words, Values(np.where(bad | np.roll(bad, by, 2 + i), np.nan, e.right))
    spatial = tuple(range(2, bad.ndim))
    for words, axes in (
        ("rows", (bad.ndim - 1,)),
        ("planes", spatial),
        ("images", (1, *spatial)),
        ("batches", tuple(range(bad.ndim))),
    ):
        yield f"NaN in whole {words}", Values(np.where(np.any(bad, axes, keepdims=True), np.nan, e.right))


@hypothesis("divisor")
def divisor(e: Evidence) -> Iterator[Variant]:
    """An average is divided by another count."""
    spec = e.spec
    if spec.op != "avg_pool":
        return

    def counts(low: bool, high: bool) -> np.ndarray:
        return outer(
            [
                conv_tap_counts(a, o, low=-a.lo if low else 0, high=a.n + (a.hi if high else 0))
                for a, o in zip(spec.axes, spec.out_size, strict=True)
            ]
        )

    size = float(prod(spec.kernel_size))
    beyond = outer(
        [conv_tap_counts(a, o, low=-a.lo, high=a.n + a.extent + a.hi) for a, o in zip(spec.axes, spec.out_size, strict=True)]
    )
    inside = outer([conv_tap_counts(a, o, high=a.n + a.extent + a.hi) for a, o in zip(spec.axes, spec.out_size, strict=True)])
    for words, found in (
        ("the size of the window, at the border too", np.full(spec.out_size, size)),
        ("the count without padding", counts(False, False)),
        ("the count with padding", counts(True, True)),
        ("a count that includes the overhang of ceil_mode", beyond),
        ("a count that includes what lies beyond the end", inside),
        ("a count with low padding alone", counts(True, False)),
        ("a count with high padding alone", counts(False, True)),
        ("one less than the size of the window", np.full(spec.out_size, size - 1)),
        ("the size of the input", np.full(spec.out_size, float(prod(spec.in_size)))),
    ):
        if np.all(found > 0):
            yield f"averages divided by {words}", replace(e.model, divisor=found)


@hypothesis("pool_kind")
def pool_kind(e: Evidence) -> Iterator[Variant]:
    """Another reduction."""
    if e.model.kind == "max":
        zero = e.model.on(e.model.x)
        padded = zero.padded.copy()
        for axis in range(e.spec.rank):
            np.moveaxis(padded, 2 + axis, 0)[-1] = 0.0
        yield "the sum of each window in place of the maximum", replace(zero, padded=padded, kind="sum")
        yield (
            "the minimum in place of the maximum",
            replace(zero, padded=np.where(np.isneginf(zero.padded), np.inf, zero.padded), kind="min"),
        )
        yield "the largest magnitude in place of the maximum", e.model.on(np.abs(e.model.x))
    elif e.model.kind == "mean":
        yield "the sum of each window in place of the mean", replace(e.model, kind="sum")
        yield "the maximum in place of the mean", replace(e.model, kind="max")


@hypothesis("infinity_clipped")
def infinity_clipped(e: Evidence) -> Iterator[Variant]:
    """Infinities become the largest finite number, or another one."""
    top = e.spec.out_type.max
    if np.isfinite(e.right).all() and float(np.max(np.abs(e.right), initial=0.0)) <= top:
        return
    with np.errstate(all="ignore"):
        yield "results clipped to the largest finite number", Values(np.clip(e.right, -top, top))
        yield "infinities replaced by 0", Values(np.where(np.isinf(e.right), 0.0, e.right))
        yield "infinities replaced by NaN", Values(np.where(np.isinf(e.right), np.nan, e.right))
    x = e.model.x
    if np.isinf(x).any():
        for words, value in (("the largest finite number", top), ("0", 0.0), ("NaN", np.nan)):
            yield f"infinities of the input taken for {words}", e.model.on(np.where(np.isinf(x), np.sign(x) * value, x))
