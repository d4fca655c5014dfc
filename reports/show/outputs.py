"""The output view: input, kernel and every output side by side, as numbers or as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reports.show.model import Image, Party, Section, Subject, Table, plain_table

#: A plane with a side longer than this is a picture; planes of a tensor that are drawn.
PICTURE, PLANES = 20, 6


def output(subject: Subject, parties: Sequence[Party]) -> Section:
    """Input, kernel and outputs."""
    spec, ops = subject.spec, subject.operands
    picture = spec.rank > 1 and max(*spec.in_size[-2:], *spec.out_size[-2:]) > PICTURE
    right = parties[0].outputs[0]
    items: list[Table | Image] = []
    notes: list[str] = []
    scale, told = _scale(ops.x) if picture else (None, "")
    items += _planes("x", ops.x, None, None, scale)
    if more := [a for a in (ops.x, ops.w, right) if a is not None and np.prod(a.shape[:-2]) > PLANES]:
        shapes = ", ".join(str(list(a.shape)) for a in more)
        notes.append(f"the first {PLANES} planes are drawn of {shapes}")
    if ops.w is not None:
        items += _planes("h", ops.w, None, None, None)
    if ops.b is not None:
        items.append(plain_table("b", ops.b.astype(np.float64).reshape(1, -1)))
    if picture:
        scale, told = _scale(right)
        notes.append(f"grey values: input 0 to 255; output {told}")
    for party in parties:
        if not party.outputs:
            notes.append(f"{party.name}: {party.verdict}")
            continue
        wrong = party.wrong[0] if party.wrong else None
        items += _planes(f"y, by {party.name}", party.outputs[0], wrong, party, scale)
    lead = tuple(t for t in (subject.why, str(spec), subject.about) if t)
    return Section(subject.name, lead, tuple(items), tuple(notes))


def _scale(a: np.ndarray) -> tuple[tuple[float, float], str]:
    """What is drawn black and white: the picture's own range, or a symmetric one where values have both signs."""
    low, high = float(np.min(a)), float(np.max(a))
    if low >= 0 and high <= 255:
        return (0.0, 255.0), "0 to 255"
    if float(np.mean(a)) > 32:  # still a picture: overshoots are cut
        return (0.0, 255.0), f"0 to 255, cut from {low:g} to {high:g}"
    top = float(np.quantile(np.abs(a), 0.98)) or 1.0
    return (-top, top), f"mid-grey is 0, black {-top:g}, white {top:g}"


def _planes(
    title: str, a: np.ndarray, wrong: np.ndarray | None, party: Party | None, scale: tuple[float, float] | None
) -> list[Table | Image]:
    """A tensor's last two axes as tables or pictures, the first `PLANES` of them."""
    found: list[Table | Image] = []
    lead, values = a.shape[:-2], a.astype(np.float64)
    bad = np.zeros(a.shape, bool) if wrong is None else wrong
    verdict, good = (party.verdict, party.good) if party else ("", None)
    for at in _indices(lead):
        name = title + (f" {list(at)}" if np.prod(lead) > 1 else "")
        if scale is None:
            found.append(plain_table(name, values[at], wrong=bad[at], verdict=verdict, good=good))
        else:
            found.append(Image(name, _grey(values[at], scale), bad[at], verdict, good))
    return found


def _indices(lead: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for i, at in enumerate(np.ndindex(*lead)):
        if i == PLANES:
            return
        yield at


def _grey(values: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """0 to 254; what is not finite is marked elsewhere."""
    low, high = scale
    level = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low)
    return np.rint(np.clip(level, 0.0, 1.0) * 254.0).astype(np.uint8)
