"""Hypotheses about what a call should not depend on: earlier calls, memory around it, where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness.diagnose.evidence import Evidence, Finding
from harness.diagnose.hypothesis import Variant, hypothesis
from harness.diagnose.model import Model
from harness.diagnose.where import describe

_LATER = "right when prepared anew, wrong on later calls"
#: The pattern of an output that holds zeros beforehand (`harness.checks.contract.POISONS`).
ZEROS = 2


@hypothesis("stale_weights")
def stale_weights(e: Evidence) -> Iterator[Variant]:
    """An operand of an earlier call is used."""
    for k, old in enumerate(e.earlier):
        call = "the call before" if k == 0 else f"{k + 1} calls before"
        if old.w is not None and e.ops.w is not None:
            yield f"the weights of {call}", Model.of(e.spec, replace(e.ops, w=old.w))
            if old.b is not None:
                yield f"the weights and the bias of {call}", Model.of(e.spec, replace(e.ops, w=old.w, b=old.b))
        if old.b is not None and e.ops.b is not None:
            yield f"the bias of {call}", Model.of(e.spec, replace(e.ops, b=old.b))
        yield f"the input of {call}", Model.of(e.spec, replace(e.ops, x=old.x))


@hypothesis("stale_output")
def stale_output(e: Evidence) -> Iterator[Variant]:
    """The output of an earlier call is given."""
    for k, old in enumerate(e.earlier):
        yield f"the operands of {'the call before' if k == 0 else f'{k + 1} calls before'}", Model.of(e.spec, old)


def seen(e: Evidence) -> Finding | None:
    """What the harness saw itself: bytes that changed."""
    if e.message.startswith("changed its input"):
        return Finding("input_overwritten", f"it {e.message}")
    if e.message.startswith("wrote ") and "guard band" in e.message:
        return Finding("written_beside", f"it {e.message}")
    return None


def again(e: Evidence) -> Iterator[Finding]:
    """Further calls on the same operands, each with one circumstance changed; at most five."""
    if e.again is None:
        return
    call = e.again
    how = dict(e.how)
    for _ in range(2):
        other = call(e.ops, **how)
        if not _same(other, e.out):
            yield _changing(e, other)
            return
    circumstances: list[tuple[str, str, dict[str, object]]] = [
        (
            "guard_read",
            "changes with what lies beyond the operands",
            {"guard": "zeros" if how.get("guard") != "zeros" else "largest"},
        ),
        ("memory_preset", "changes with what the output held before", {"poison": 1 - int(str(how.get("poison", 0)))}),
    ]
    if how.get("layout", "C") != "C":
        circumstances.insert(
            0, ("memory_layout", f"wrong on operands laid out {how['layout']!r}, not on contiguous ones", {"layout": "C"})
        )
    for name, words, change in circumstances:
        other = call(e.ops, **{**how, **change})
        differ = ~_equal(other, e.out)
        if differ.any():
            place = describe(differ)
            n = int(np.count_nonzero(differ))
            yield Finding(name, words + (f", only where {place.text}" if place else ""), False, n, n, place.id if place else "")
            return
    if _wrong(e, e.out) and e.check != "contract" and not _wrong(e, call(e.ops, **how, fresh=True)):
        n = int(np.count_nonzero(e.wrong))
        yield Finding("prepared_state", _LATER, False, n, n)


def _changing(e: Evidence, other: np.ndarray) -> Finding:
    """An output that changes from call to call: for good after the first ones, or at random."""
    assert e.again is not None
    n = int(np.count_nonzero(~_equal(other, e.out)))
    calls = [_wrong(e, e.again(e.ops, **{**e.how, "fresh": i == 0})) for i in range(6)]
    if not calls[0] and calls[-3:] == [True] * 3 and calls == sorted(calls):
        return Finding("prepared_state", f"{_LATER} (from call {calls.index(True) + 1} on)", False, n, e.out.size)
    return Finding(
        "nondeterministic", f"the same call again gives another output ({n} of {e.out.size} differ)", False, n, e.out.size
    )


def preset(e: Evidence) -> Iterator[Finding]:
    """An output that was never written, or added to: over zeros the second comes out right."""
    if e.again is not None and not _wrong(e, e.again(e.ops, **{**e.how, "poison": ZEROS})):
        n = int(np.count_nonzero(e.wrong))
        yield Finding("memory_preset", "adds its result to what the output held before: right over zeros", True, n, n)


def special(e: Evidence) -> Finding | None:
    """Operands that only a fast path treats otherwise: the checks on dense ones pass."""
    if "integers" not in e.passed or e.model.w is None:
        return None
    if not np.any(e.model.x):
        return Finding("zero_input", "wrong for an input of zeros alone: integers come out right")
    for name, a in (("x", e.model.x), ("w", e.model.w)):
        share = np.count_nonzero(a) / a.size
        if share <= 0.5 and e.check in ("impulses", "operator"):
            return Finding(
                "sparse_input", f"wrong only where {name} is mostly zeros ({share:.0%} are not): dense integers come out right"
            )
    return None


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = a.astype(np.float64), b.astype(np.float64)
    same: np.ndarray = (x == y) | (np.isnan(x) & np.isnan(y))
    return same


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(_equal(a, b)))


def _wrong(e: Evidence, y: np.ndarray) -> bool:
    return bool(np.any(~e.agrees(e.right, y.astype(np.float64), 0.0 if e.tol is None else e.tol)))
