"""What `show` is about: a case as a view needs it, with its data, or why it cannot be shown so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from harness.catalogue import Case
from harness.checks.exact import photo_arrays
from harness.cli.errors import UsageProblem
from harness.data import Operands
from harness.data.raw import nonzero_integers, words
from harness.spec import ConvSpec, SpecError
from harness.spec.host import numpy_dtype

if TYPE_CHECKING:
    from reports.show import Subject

MATRICES = ("toeplitz", "im2col", "circulant", "shift")
VIEWS = (*MATRICES, "output")
#: Rows and columns of a matrix that is still readable, elements of a tensor that is drawn.
SIDE, ELEMENTS = 96, 1 << 16


@dataclass(frozen=True, eq=False)
class Shown:
    """A case, the view of it, and the operands of each run that makes it."""

    case: Case
    view: str
    spec: ConvSpec
    operands: Operands
    about: str

    def subject(self) -> Subject:
        """For the page; foreign text is cleaned here."""
        from harness.cli.console import clean
        from reports.show import Subject

        return Subject(clean(self.case.id), clean(self.case.why), self.spec, self.operands, clean(self.about))

    def runs(self) -> Iterator[Operands]:
        """The operands of every run: unit impulses for a matrix, once the data for the output."""
        if self.view == "output":
            yield self.operands
            return
        x, w = self.operands.x, self.operands.w
        open_one = w if self.view == "im2col" else x
        assert open_one is not None
        for at in np.ndindex(*open_one.shape):
            one = np.zeros_like(open_one)
            one[at] = 1
            yield Operands(x, one) if self.view == "im2col" else Operands(one, w)


def default_view(case: Case) -> str:
    """A picture's output, the data matrix that a case writes out, else the filter's where it can be read."""
    if case.photo is not None or case.spec is None:
        return "output"
    if case.matrix is not None and case.matrix.view == "data":
        return "im2col"
    for view in ("circulant", "toeplitz"):
        if _why_not(view, _reduced(view, case.spec)) is None and max(_shape(view, _reduced(view, case.spec))) <= SIDE:
            return view
    return "output"


def shown(case: Case, view: str, size: tuple[int, ...] | None = None) -> Shown:
    """`case` made ready for `view`.

    Raises
    ------
    UsageProblem
        If there is no such view of it, or it is too large to be read; the message has the numbers and the way out.
    """
    if case.spec is None:
        raise UsageProblem(f"{case.id} is a case that must be refused ({case.refused}): there is nothing to show")
    whole = case.spec if size is None else _resized(case, case.spec, size)
    spec = _reduced(view, whole)
    if (reason := _why_not(view, spec)) is not None:
        raise UsageProblem(f"{case.id} has no view {view}: {reason}")
    _small_enough(case, view, whole, spec)
    operands, origin = _operands(case, spec)
    left_out = _left_out(whole, spec)
    return Shown(case, view, spec, operands, "; ".join(t for t in (origin, left_out) if t))


def _reduced(view: str, spec: ConvSpec) -> ConvSpec:
    """What the matrix is of: one image without bias, for the data matrix one group and one output channel."""
    if view == "output":
        return spec
    spec = replace(spec, batch=1, bias=False)
    if view == "im2col" and not spec.is_pool:
        spec = replace(spec, in_channels=spec.channel_taps, out_channels=1, groups=1)
    return spec


def _why_not(view: str, spec: ConvSpec) -> str | None:
    if 0 in spec.out_shape:
        return f"its output is empty, {list(spec.out_shape)}"
    if view == "output":
        return None
    if spec.op == "max_pool":
        return "a maximum is not linear, so that no matrix computes it"
    if view == "im2col" and spec.is_pool:
        return f"{spec.op} has no weights to multiply the patches by; try --as toeplitz"
    if view == "circulant":
        kept = spec.out_size == spec.in_size and set(spec.stride) == {1}
        if spec.op != "conv" or spec.padding_mode != "circular" or not kept or spec.out_channels * spec.in_channels != 1:
            return (
                "a circulant takes a conv with circular padding, stride 1, one channel and an output of the input's "
                f"size; this is {spec}; try --as toeplitz"
            )
    return None


def _shape(view: str, spec: ConvSpec) -> tuple[int, int]:
    if view == "im2col":
        return prod(spec.w_shape or ()), prod(spec.out_shape)
    return prod(spec.out_shape), prod(spec.x_shape)


def _small_enough(case: Case, view: str, whole: ConvSpec, spec: ConvSpec) -> None:
    if view == "output":
        most = max(prod(spec.x_shape), prod(spec.out_shape))
        if most > ELEMENTS:
            raise UsageProblem(
                f"{case.id} is too large to be drawn: {most} elements in {spec}, at most {ELEMENTS}; {_way_out(view, whole)}"
            )
        return
    rows, columns = _shape(view, spec)
    if max(rows, columns) > SIDE:
        other = "; or draw its data, --as output" if max(prod(whole.x_shape), prod(whole.out_shape)) <= ELEMENTS else ""
        raise UsageProblem(
            f"{case.id} is too large for a matrix: {rows} x {columns}, at most {SIDE} x {SIDE} can be read; "
            f"{_way_out(view, whole)}{other}"
        )


def _way_out(view: str, spec: ConvSpec) -> str:
    """The largest smaller input that can be shown."""
    for most in range(max(spec.in_size), 0, -1):
        size = tuple(min(n, most) for n in spec.in_size)
        try:
            small = _reduced(view, replace(spec, in_size=size))
        except SpecError:
            continue
        fits = max(_shape(view, small)) <= SIDE if view != "output" else prod(small.x_shape) <= ELEMENTS
        if fits and _why_not(view, small) is None:
            return f"show it on a smaller input, --size {'x'.join(map(str, size))}"
    return "no smaller input makes it small enough, show another case: convproof list cases 'lecture-*'"


def _resized(case: Case, spec: ConvSpec, size: tuple[int, ...]) -> ConvSpec:
    if len(size) != spec.rank:
        raise UsageProblem(
            f"--size names {len(size)} axes, {case.id} has {spec.rank}: --size {'x'.join(map(str, spec.in_size))}"
        )
    try:
        return replace(spec, in_size=size)
    except SpecError as e:
        raise UsageProblem(f"{case.id} has no meaning with --size {'x'.join(map(str, size))}: {e}") from None


def _operands(case: Case, spec: ConvSpec) -> tuple[Operands, str]:
    """The case's own numbers where their shape is what is shown; small integers for the rest."""
    own: Operands | None = None
    origin = ""
    if case.photo is not None:
        assert case.spec is not None
        own, origin = photo_arrays(case.spec, case.photo), f"x is the photograph {case.photo.file}"
    elif case.literal is not None:
        put = numpy_dtype(spec.in_dtype)
        lit = case.literal
        b = None if lit.b is None else np.array(lit.b, numpy_dtype(spec.acc_dtype))
        own = Operands(np.array(lit.x, put), None if lit.w is None else np.array(lit.w, put), b)
    made: list[str] = []
    x = _cut(own.x if own else None, spec.x_shape)
    if x is None:
        x = _integers(case, "x", spec.x_shape, spec.in_dtype)
        made.append("x")
    w = b = None
    if spec.w_shape is not None:
        w = _cut(own.w if own else None, spec.w_shape)
        if w is None:
            w = _integers(case, "w", spec.w_shape, spec.in_dtype)
            made.append("w")
    if spec.b_shape is not None:
        b = own.b if own and own.b is not None else _integers(case, "b", spec.b_shape, spec.acc_dtype)
    drawn = f"{' and '.join(made)} drawn from the integers -9 to 9" if made else ""
    return Operands(x, w, b), "; ".join(t for t in (origin, drawn) if t)


def _cut(a: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """The leading part of `a` in `shape`, where it has one: the first image, the first group, a corner of the picture."""
    if a is None or a.ndim != len(shape) or any(n > m for n, m in zip(shape, a.shape, strict=True)):
        return None
    return np.ascontiguousarray(a[tuple(slice(n) for n in shape)])


def _integers(case: Case, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    drawn = nonzero_integers(words(prod(shape), "show", case.id, name), -9, 9)
    return drawn.reshape(shape).astype(numpy_dtype(dtype))


def _left_out(whole: ConvSpec, spec: ConvSpec) -> str:
    parts = []
    if whole.batch != spec.batch:
        parts.append(f"one image of the batch of {whole.batch}")
    if whole.bias and not spec.bias:
        parts.append("without the bias")
    if whole.groups != spec.groups:
        parts.append(f"the first of {whole.groups} groups")
    elif whole.out_channels != spec.out_channels:
        parts.append(f"X is the same for each of the {whole.out_channels} output channels")
    return "shown: " + ", ".join(parts) if parts else ""
