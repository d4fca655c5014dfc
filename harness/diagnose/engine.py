"""Trying the hypotheses on a failed trial, and putting what is found in order."""

from __future__ import annotations

from collections.abc import Iterator
from time import thread_time

import numpy as np

from harness.diagnose import channels, functions, operands, outputs, padding, precision, special, state, strides
from harness.diagnose.evidence import Evidence, Finding, Match
from harness.diagnose.hypothesis import HYPOTHESES, Hypothesis
from harness.diagnose.places import location, not_computed
from harness.diagnose.where import describe

#: Seconds of this thread's time after which no further hypothesis is tried: a busy machine changes no diagnosis.
SECONDS = 0.5
#: Findings that are worth a reader's time.
MOST = 8
#: Modules whose import fills `HYPOTHESES`, in the order in which these are tried.
FAMILIES = (state, special, operands, channels, padding, strides, outputs, precision, functions)
HYPOTHESES.sort(key=lambda h: [m.__name__ for m in FAMILIES].index(h.generate.__module__))


def diagnose(e: Evidence, *, unwritten: np.ndarray | None = None, seconds: float = SECONDS) -> tuple[Finding, ...]:
    """What reproduces the output of a failed trial, the most convincing first.

    First what the harness saw itself or what a further call shows; then hypotheses that reproduce the whole output,
    in their order in the list; then those that reproduce the wrong elements alone, with where these are; then where
    the output is wrong. Nothing is reported of an output that is right by the oracle, unless it changes from call to call.

    Parameters
    ----------
    e : Evidence
    unwritten : ndarray of bool, optional
        Outputs that were never written.
    seconds : float
        No hypothesis is begun later.

    Returns
    -------
    tuple of Finding
    """
    end = thread_time() + seconds
    if (seen := state.seen(e)) is not None:
        return (seen,)
    if not e.out.size:
        return ()
    found = list(state.again(e))
    if not np.any(e.wrong):
        return (*found, *_hidden(e))
    if unwritten is not None and np.any(unwritten):
        return (*state.preset(e), *found, *not_computed(e, unwritten))
    found += [f] if (f := state.special(e)) is not None else []
    reproduced = list(_reproducing(e, end)) if e.telling else []
    whole = [f for f in reproduced if f.exact]
    left = list(not_computed(e))
    found += [*whole, *left]
    if not whole and not left:
        found += [f for f in reproduced if not f.exact]
    if not reproduced and not left and not found and (error := precision.errors(e)) is not None:
        found.append(error)
    if not whole and not left:
        found += location(e)
    return tuple(found[:MOST])


def _reproducing(e: Evidence, end: float) -> Iterator[Finding]:
    """Hypotheses that predict the wrong elements; of one, the first variant that does best."""
    for h in HYPOTHESES:
        if thread_time() > end:
            return
        best: Finding | None = None
        for words, match in _matches(h, e, end):
            finding = _finding(h, words, match, e)
            if finding is not None and (best is None or (finding.exact and not best.exact)):
                best = finding
                if best.exact:
                    break
        if best is not None:
            yield best


def _matches(h: Hypothesis, e: Evidence, end: float) -> Iterator[tuple[str, Match]]:
    with np.errstate(all="ignore"):
        for words, prediction in h.generate(e):
            match = e.match(prediction)
            if match is not None:
                yield words, match
            if thread_time() > end:
                return


def _finding(h: Hypothesis, words: str, match: Match, e: Evidence) -> Finding | None:
    """A match in words; None for one of wrong elements alone that stand at no place in particular."""
    text = f"matches the oracle with {words}"
    if match.exact:
        return Finding(h.id, text, True, match.matched, match.of)
    place = describe(e.wrong)
    if place is None:
        return None
    return Finding(h.id, f"{text}, only where {place.text}", False, match.matched, match.of, place.id)


def _hidden(e: Evidence) -> Iterator[Finding]:
    """Within the bound, and yet nowhere what rounding to nearest gives: a direction, seen on every element."""
    if not (e.finite and e.spec.out_type.is_float):
        return
    near = e.agrees(e.right, e.got, 0.0)
    for words, rounded in precision.directions(e, e.right):
        telling = ~e.agrees(rounded, e.right.astype(e.out.dtype).astype(np.float64), 0.0)
        n = int(np.count_nonzero(telling))
        hits = int(np.count_nonzero(telling & e.agrees(rounded, e.got, 0.0)))
        if n >= 8 and hits >= 0.99 * n and np.count_nonzero(near) < 0.9 * near.size:
            yield Finding("output_rounding", f"matches the oracle with results rounded {words}", True, hits, n)
            return
