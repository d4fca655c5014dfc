"""A set of outputs in words: `out_w mod 16 >= 9`, or nothing where no simple words fit.

A description must hold exactly: every wrong output inside, every right one outside. Outputs that are right by chance
(they would be so even if the fault were there) may be left free by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The longest period that is looked for: a vector register of 8-bit elements, a warp.
PERIOD = 64


@dataclass(frozen=True)
class Place:
    """Where outputs are wrong: an id of the list of hypotheses, and words."""

    id: str
    text: str


@dataclass(frozen=True, eq=False)
class _Pattern:
    """A rule for the indices of one axis, and those that it holds."""

    kind: str
    text: str
    members: np.ndarray


def axis_names(rank: int) -> tuple[str, ...]:
    """Names of an output's axes.

    Examples
    --------
    >>> axis_names(2)
    ('batch', 'channel', 'out_h', 'out_w')
    """
    return ("batch", "channel", *(f"out_{c}" for c in "dhw"[3 - rank :]))


def describe(wrong: np.ndarray, free: np.ndarray | None = None) -> Place | None:
    """What is wrong, in words.

    Parameters
    ----------
    wrong : ndarray of bool, (batch, channel, spatial...)
    free : ndarray of bool, optional
        Right outputs that may lie inside the description.

    Returns
    -------
    Place or None
        None where every output is wrong, and where no simple words fit.

    Examples
    --------
    >>> wrong = np.zeros((1, 2, 4, 20), bool)
    >>> wrong[..., 16:] = True
    >>> describe(wrong).text
    'out_w >= 16 (the last 4 of 20)'
    """
    care = ~wrong if free is None else ~wrong & ~free
    if not np.any(wrong) or not np.any(care):
        return None
    names = axis_names(wrong.ndim - 2)
    return _product(wrong, care, names) or _border(wrong, care, names) or _flat(wrong, care)


def _product(wrong: np.ndarray, care: np.ndarray, names: tuple[str, ...]) -> Place | None:
    """A set of indices an axis; all of them must hold."""
    inside = [np.any(wrong, axis=tuple(a for a in range(wrong.ndim) if a != axis)) for axis in range(wrong.ndim)]
    chosen: list[tuple[int, _Pattern]] = []
    box = np.ones(wrong.shape, bool)
    for axis in range(wrong.ndim):
        others = np.ix_(*(np.ones(n, bool) if a == axis else inside[a] for a, n in enumerate(wrong.shape)))
        outside = np.any(care[others], axis=tuple(a for a in range(wrong.ndim) if a != axis))
        if inside[axis].all() or not outside.any():
            continue
        pattern = _pattern(names[axis], inside[axis], outside)
        if pattern is None:
            return None
        chosen.append((axis, pattern))
        box &= pattern.members.reshape(tuple(-1 if a == axis else 1 for a in range(wrong.ndim)))
    if not chosen or bool(np.any(box & care)):
        return None
    if len(chosen) > 1 and any(p.kind in ("one", "range") for _, p in chosen):
        return None  # an arbitrary place, not a rule
    return Place(_kind(chosen), " and ".join(p.text for _, p in chosen))


def _kind(chosen: list[tuple[int, _Pattern]]) -> str:
    axis, pattern = chosen[-1]
    if axis == 0:
        return "batch_items"
    if pattern.kind == "ends":
        return "border_only"
    return "one_axis_plane" if pattern.kind in ("one", "range", "start") else "tail"


def _pattern(name: str, inside: np.ndarray, outside: np.ndarray) -> _Pattern | None:
    """The simplest rule that holds all of `inside` and nothing of `outside`, two sets of indices of an axis."""
    n = len(inside)
    i, at, right = np.arange(n), np.flatnonzero(inside), np.flatnonzero(outside)
    first, last = int(at[0]), int(at[-1])
    if right[-1] < first:
        words = f"{name} = {first} (the last)" if first == n - 1 else f"{name} >= {first} (the last {n - first} of {n})"
        return _Pattern("tail", words, i >= first)
    if right[0] > last:
        return _Pattern("start", f"{name} = 0" if last == 0 else f"{name} < {last + 1}", i <= last)
    if len(at) > 1 and (found := _periodic(inside, outside)) is not None:
        return _Pattern("tail", f"{name} {found[0]}", found[1])
    if np.all((at < right[0]) | (at > right[-1])):
        members = (i < right[0]) | (i > right[-1])
        return _Pattern("ends", f"{name} < {right[0]} or {name} > {right[-1]}", members)
    if first == last:
        return _Pattern("one", f"{name} = {first}", i == first)
    if not np.any((right >= first) & (right <= last)):
        return _Pattern("range", f"{first} <= {name} <= {last}", (i >= first) & (i <= last))
    return None


def _border(wrong: np.ndarray, care: np.ndarray, names: tuple[str, ...]) -> Place | None:
    """Everything outside of a box of right outputs."""
    parts, box = [], np.ones(wrong.shape, bool)
    for axis in range(2, wrong.ndim):
        right = np.flatnonzero(np.any(care, axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        low, high, n = int(right[0]), int(right[-1]), wrong.shape[axis]
        i = np.arange(n)
        box &= ((i >= low) & (i <= high)).reshape(tuple(-1 if a == axis else 1 for a in range(wrong.ndim)))
        parts += [f"{names[axis]} < {low}"] if low else []
        parts += [f"{names[axis]} > {high}"] if high < n - 1 else []
    if not parts or bool(np.any(box & wrong)) or bool(np.any(~box & care)):
        return None
    return Place("border_only", " or ".join(parts))


def _flat(wrong: np.ndarray, care: np.ndarray) -> Place | None:
    """A rule for the index in the plane, or in the whole output."""
    plane = (-1, int(np.prod(wrong.shape[2:])))
    for name, bad, right in (
        ("the index in the plane", np.any(wrong.reshape(plane), 0), np.any(care.reshape(plane), 0)),
        ("the index in memory", wrong.reshape(-1), care.reshape(-1)),
    ):
        if bad.all() or not right.any() or bool(np.any(bad & right)):
            continue
        first, last = int(np.argmax(bad)), int(len(bad) - 1 - np.argmax(bad[::-1]))
        if not np.any(right[first:]):
            many = len(bad) - first
            return Place("index_limit" if many > 1 else "tail", f"{name} >= {first} (the last {many} of {len(bad)})")
        if not np.any(right[: last + 1]):
            return Place("index_limit", f"{name} < {last + 1}")
        if (found := _periodic(bad, right)) is not None:
            return Place("tail", f"{name} {found[0]}")
    return None


def _periodic(bad: np.ndarray, right: np.ndarray) -> tuple[str, np.ndarray] | None:
    """A rule in the index modulo a period, seen in two periods at least; its words and members."""
    n = len(bad)
    for v in range(2, min(PERIOD, n // 2) + 1):
        whole = np.arange(n) % v
        inside, outside = np.bincount(whole[bad], minlength=v) > 0, np.bincount(whole[right], minlength=v) > 0
        if bool(np.any(inside & outside)):
            continue
        first, last = int(np.argmax(inside)), int(v - 1 - np.argmax(inside[::-1]))
        if first == last and 0 < first < v - 1:
            return f"mod {v} = {first}", whole == first
        if not np.any(outside[first:]):
            return (f"mod {v} >= {first}" if first < v - 1 else f"mod {v} = {first}"), whole >= first
        if not np.any(outside[: last + 1]):
            return (f"mod {v} < {last + 1}" if last else f"mod {v} = 0"), whole <= last
    return None
