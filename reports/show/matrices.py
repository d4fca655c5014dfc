"""The matrix views: the filter's Toeplitz matrix, the data's, circulants with their spectrum, the shift operator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np

from harness.spec import ConvSpec
from reports.show.model import HUES, Party, Section, Subject, Table, number, plain_table
from reports.show.structure import circle, data_sources, diagonals, filter_taps, labels, shift, window_order

#: Taps whose colours are explained, eigenvalues that are listed, and differences that are named.
LISTED, DIFFERENCES = 16, 8


def operator(party: Party) -> np.ndarray:
    """T from the responses to the unit impulses of x: a column a run."""
    return np.stack([o.reshape(-1) for o in party.outputs], 1)


def toeplitz(subject: Subject, parties: Sequence[Party]) -> Section:
    """The filter as a matrix, T of y = T x: taps coloured alike, structural zeros dotted."""
    spec, taps = subject.spec, filter_taps(subject.spec)
    t, notes = operator(parties[0]), []
    filled = int(np.count_nonzero(taps >= 0))
    most = int(np.max(np.count_nonzero(taps >= 0, axis=1)))
    rows, columns = t.shape
    notes.append(
        f"T is {rows} x {columns}: {filled} of its {t.size} entries are taps ({filled / t.size:.0%}), at most {most} a row"
    )
    found, broken = diagonals(spec, t)
    what = "circularly, " if spec.padding_mode == "circular" else ""
    if broken:
        notes.append(f"not constant along its diagonals: {broken} of {found} hold several values ({spec.padding_mode} padding)")
    elif set(spec.stride) != {1}:
        notes.append(f"constant along its diagonals of slope {_by(spec.stride)}, {what}{found} of them: what a stride leaves")
    else:
        blocks = "" if spec.rank == 1 and prod(spec.x_shape[:2]) == 1 else ", in every block and from block to block"
        notes.append(f"constant along its diagonals, {what}{found} of them{blocks}: a Toeplitz matrix")
    tables = [_filter_table("T, by the oracle", subject, parties[0], taps)]
    return Section(subject.name, _lead(subject, "y = T x"), *_compared(subject, tables, parties, taps, notes))


def im2col(subject: Subject, parties: Sequence[Party]) -> Section:
    """The data as a matrix, X of y^T = h^T X: the patches that im2col copies, padding marked."""
    spec, order = subject.spec, window_order(subject.spec)
    sources = data_sources(spec)
    x = _rows(parties[0], order)
    w = subject.operands.w
    assert w is not None
    h = w.reshape(-1).astype(np.float64)[order]
    blank = int(np.count_nonzero(sources < 0))
    copies = (x.size - blank) / max(1, len(np.unique(sources[sources >= 0])))
    y = h @ x
    notes = [
        f"X is {x.shape[0]} x {x.shape[1]}: {blank} of its {x.size} entries are padding, "
        f"each input that is read stands there {copies:.3g} times",
        f"y^T = h^T X with h^T = [{' '.join(number(float(v)) for v in h)}]",
        f"    = [{' '.join(number(float(v)) for v in y[:40])}{' ...' if y.size > 40 else ''}]",
    ]
    rows = tuple(labels("h", spec.w_shape or ())[i] for i in order)
    tables = [_data_table("X, by the oracle", subject, parties[0], sources, rows)]
    differ = [p for p in parties[1:] if p.outputs and p.good is False]
    tables += [_data_table(f"X, by {p.name}", subject, p, sources, rows, x) for p in differ]
    return Section(subject.name, _lead(subject, "y^T = h^T X"), tuple(tables), (*notes, *_verdicts(parties, x, order)))


def circulant(subject: Subject, parties: Sequence[Party]) -> Section:
    """A circulant and its eigenvalues, the DFT of the filter placed on the circle.

    R. M. Gray, "Toeplitz and Circulant Matrices: A Review", Found. Trends Commun. Inf. Theory 2 (2006), theorem 7.
    """
    spec, taps = subject.spec, filter_taps(subject.spec)
    c = operator(parties[0])
    assert subject.operands.w is not None
    column = circle(spec, subject.operands.w)
    eigenvalues = np.fft.fftn(column).reshape(-1)
    vectors = reduce(np.kron, [_waves(n) for n in spec.in_size])
    deviation = float(np.max(np.abs(c @ vectors - vectors * eigenvalues)))
    n = c.shape[0]
    whole = all(
        np.array_equal(shift(spec, spec.in_size, 1, a, 1) @ c, c @ shift(spec, spec.in_size, 1, a, 1)) for a in range(spec.rank)
    )
    notes = [
        f"circulant: {'yes' if whole else 'NO'}; every row is the one above, turned by one place"
        + ("" if spec.rank == 1 else ", in every block and from block to block"),
        f"C v_k = lambda_k v_k with v_k the {n} Fourier vectors and lambda = DFT of the filter on the circle: "
        f"max deviation {deviation:.1e} (of |lambda| up to {float(np.max(np.abs(eigenvalues))):.4g})",
    ]
    for party in parties[1:]:
        if party.outputs:
            off = float(np.max(np.abs(operator(party) @ vectors - vectors * eigenvalues)))
            notes.append(f"{party.name}: max deviation from the eigenvalues {off:.1e}")
    tables = [_filter_table("C(w), by the oracle", subject, parties[0], taps)]
    items, more = _compared(subject, tables, parties, taps, notes, "C(w)")
    shown = np.stack([eigenvalues.real, eigenvalues.imag, np.abs(eigenvalues)], 1)[:LISTED]
    spectrum = plain_table(
        f"eigenvalues{'' if n <= LISTED else f', the first {LISTED}'}",
        np.where(np.abs(shown) < 1e-12, 0.0, shown),
        rows=tuple(f"k={k}" for k in range(len(shown))),
        columns=("re", "im", "abs"),
    )
    return Section(subject.name, _lead(subject, "y = C(w) x"), (*items, spectrum), more)


def shifts(subject: Subject, parties: Sequence[Party]) -> Section:
    """The shift operator, and whether the convolution commutes with it: T S^T = S^T T where the padding is circular."""
    spec = subject.spec
    by, to = (1,) * spec.rank, (1,) * spec.rank
    if spec.op == "conv_transpose":
        to = spec.stride
    else:
        by = spec.stride
    s = shift(spec, spec.in_size, spec.in_channels, spec.rank - 1, 1)
    none = float(np.max(np.abs(s @ s.T - np.eye(len(s))))) + float(np.max(np.abs(s.T @ s - np.eye(len(s)))))
    notes = [f"S S^T = S^T S = I: max deviation {none:g}"]
    commutes = [False] * spec.rank
    for party in parties:
        if not party.outputs:
            continue
        t = operator(party)
        for axis in range(spec.rank):
            left = t @ shift(spec, spec.in_size, spec.in_channels, axis, -by[axis])
            right = shift(spec, spec.out_size, spec.out_channels, axis, -to[axis]) @ t
            off = int(np.count_nonzero(left != right))
            name = f"T {_back(by[axis])} = {_back(to[axis])} T"
            along = "" if spec.rank == 1 else f" along axis {axis + 1}"
            far = float(np.max(np.abs(left - right)))
            if party is parties[0]:
                commutes[axis] = off == 0
            if off == 0:
                told = "commutes, entry by entry"
            elif commutes[axis] and party.good:
                told = "commutes, within the bound"
            else:
                told = f"{off} of {left.size} entries differ" + ("" if commutes[axis] else _why(spec))
            notes.append(f"{party.name}: {name}{along}: {told} (max deviation {far:.2g})")
    axis_note = "" if spec.rank == 1 else " along the last axis"
    names = labels("x", spec.x_shape)
    pattern = np.where(s > 0, 0, -1)
    drawn = plain_table(f"S{axis_note}", s, hue=pattern, faint=s == 0, rows=names)
    back = plain_table(f"S^T{axis_note}", s.T, hue=pattern.T, faint=s.T == 0, rows=names)
    taps = filter_taps(spec)
    return Section(
        subject.name,
        _lead(subject, "(S x)_i = x_{i-1}, T S^T = S^T T"),
        *_compared(subject, [drawn, back, _filter_table("T, by the oracle", subject, parties[0], taps)], parties, taps, notes),
    )


def _filter_table(title: str, subject: Subject, party: Party, taps: np.ndarray, right: np.ndarray | None = None) -> Table:
    t = operator(party)
    wrong = np.stack([m.reshape(-1) for m in party.wrong], 1) if party.wrong else np.zeros(t.shape, bool)
    return plain_table(
        title,
        t,
        hue=np.where(taps >= 0, taps % HUES, -1),
        faint=(taps < 0) & (t == 0),
        wrong=wrong,
        rows=labels("y", subject.spec.out_shape),
        columns=labels("x", subject.spec.x_shape),
        verdict=party.verdict if right is not None else "",
        good=party.good,
    )


def _data_table(
    title: str, subject: Subject, party: Party, sources: np.ndarray, rows: tuple[str, ...], right: np.ndarray | None = None
) -> Table:
    order = window_order(subject.spec)
    x = _rows(party, order)
    wrong = np.stack([party.wrong[i].reshape(-1) for i in order]) if party.wrong else np.zeros(x.shape, bool)
    return plain_table(
        title,
        x,
        hue=np.where(sources >= 0, sources % HUES, -1),
        faint=(sources < 0) & (x == 0),
        wrong=wrong,
        rows=rows,
        columns=labels("y", subject.spec.out_shape),
        verdict=party.verdict if right is not None else "",
        good=party.good,
    )


def _compared(
    subject: Subject, tables: list[Table], parties: Sequence[Party], taps: np.ndarray, notes: list[str], name: str = "T"
) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The oracle's tables with those of the backends that differ, and the notes with every verdict."""
    right = operator(parties[0])
    differ = [p for p in parties[1:] if p.outputs and p.good is False]
    tables += [_filter_table(f"{name}, by {p.name}", subject, p, taps, right) for p in differ]
    return tuple(tables), (*notes, *_verdicts(parties, right, None))


def _verdicts(parties: Sequence[Party], right: np.ndarray, order: list[int] | None) -> list[str]:
    """A line a backend, and its first differences by row and column, counted from 1 as on the slides."""
    lines = []
    for party in parties[1:]:
        lines.append(f"{party.name}: {party.verdict}")
        if not party.wrong or party.good is not False:
            continue
        got = operator(party) if order is None else _rows(party, order)
        flat = [m.reshape(-1) for m in party.wrong]
        wrong = np.stack(flat, 1) if order is None else np.stack([flat[i] for i in order])
        places = np.argwhere(wrong)
        for r, c in places[:DIFFERENCES]:
            lines.append(f"    row {r + 1}, column {c + 1}: got {number(got[r, c])}, expected {number(right[r, c])}")
        if len(places) > DIFFERENCES:
            lines.append(f"    and {len(places) - DIFFERENCES} more")
    return lines


def _rows(party: Party, order: list[int]) -> np.ndarray:
    """X from the responses to one-tap filters: a row a run."""
    return np.stack([party.outputs[i].reshape(-1) for i in order])


def _lead(subject: Subject, formula: str) -> tuple[str, ...]:
    return tuple(t for t in (subject.why, f"{subject.spec}   {formula}", subject.about) if t)


def _waves(n: int) -> np.ndarray:
    """Columns exp(2 pi i j k / n)."""
    at = np.arange(n)
    return np.exp(2j * np.pi * ((at[:, None] * at[None, :]) % n) / n)


def _by(stride: tuple[int, ...]) -> str:
    return " x ".join(map(str, stride))


def _back(k: int) -> str:
    return "S^T" if k == 1 else f"(S^T)^{k}"


def _why(spec: ConvSpec) -> str:
    if spec.padding_mode != "circular":
        return ": the padding is not circular"
    return ": the output is not the input's size over the stride"
