"""What can be said of a wrong output without knowing how it came about: where it is wrong, and what stands there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.diagnose.evidence import Evidence, Finding
from harness.diagnose.where import Place, describe


def not_computed(e: Evidence, missing: np.ndarray | None = None) -> Iterator[Finding]:
    """The wrong outputs hold 0, the bias alone, one constant, or what the memory held before."""
    bad, got = e.wrong, e.got
    n = int(np.count_nonzero(bad))
    bias = np.zeros(()) if e.model.bias is None else e.model.bias.reshape(1, -1, *(1,) * e.spec.rank)
    first = got[bad][0]
    kinds: list[tuple[str, np.ndarray]] = [("are 0", np.zeros(()))]
    kinds += [("hold the bias alone", bias)] if e.model.bias is not None else []
    if missing is not None:
        kinds = [("were never written", np.array(np.nan))] if np.array_equal(missing, bad) else []
    elif np.isfinite(first) and n > 2:
        kinds.append((f"are all {first:.6g}", np.array(first)))
    for words, constant in kinds:
        value = np.broadcast_to(constant, got.shape)
        if not np.all(e.agrees(value, got, 0.0)[bad]):
            continue
        free = e.agrees(value, got, 0.0)
        place = describe(bad, free)
        if place is None and n < 3 and missing is None:
            continue
        where = f", only where {place.text}" if place else ""
        share = "all outputs" if n == bad.size else f"{n} of {bad.size} outputs"
        yield Finding("not_computed", f"{share} {words}{where}", False, n, n, place.id if place else "")
        return


def location(e: Evidence) -> Iterator[Finding]:
    """A rule that separates the wrong outputs from the right ones."""
    if not _dense(e):
        return
    place = describe(e.wrong)
    n = int(np.count_nonzero(e.wrong))
    padding = _touching(e)
    if padding is not None and (place is None or place.id != "tail"):
        yield Finding("border_only", f"wrong only where {padding.text}", False, n, n, "border_only")
    if place is not None and place.id == "border_only" and padding is not None:
        return
    if place is not None and (n > 1 or e.wrong.size > 4):
        yield Finding(place.id, f"wrong only where {place.text}", False, n, n, place.id)


def _dense(e: Evidence) -> bool:
    """Whether right outputs say anything: where operands are mostly zeros, so are outputs, whatever is wrong."""
    if not e.finite:
        return False
    return all(np.count_nonzero(a) > a.size / 2 for a in (e.ops.x, e.ops.w) if a is not None)


def _touching(e: Evidence) -> Place | None:
    """Whether the outputs whose windows touch the padding, at some side, are the wrong ones."""
    spec = e.spec
    if not any(a.lo > 0 or a.hi > 0 for a in spec.axes) or spec.op == "conv_transpose":
        return None
    touches = []
    for a, out in zip(spec.axes, spec.out_size, strict=True):
        at = np.arange(out)[:, None] * a.s - a.lo + np.arange(a.m) * a.d
        touches.append(((at < 0).any(1), (at >= a.n).any(1)))
    for words, sides in (("padding", (0, 1)), ("low padding", (0,)), ("high padding", (1,))):
        mask = np.zeros(e.wrong.shape, bool)
        for i, sets in enumerate(touches):
            for side in sides:
                mask |= sets[side].reshape(tuple(-1 if a == i + 2 else 1 for a in range(mask.ndim)))
        inside = int(np.count_nonzero(mask & e.wrong))
        # an output of the border may be right by chance; none in the interior may be wrong
        interior = int(np.count_nonzero(~mask))
        if inside and interior >= 4 and not np.any(e.wrong & ~mask) and inside >= 0.85 * np.count_nonzero(mask):
            return Place("border_only", f"a window touches the {words}")
    return None
