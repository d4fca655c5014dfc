"""Cases made from specifications: their names, what the catalogue asks of them, their exact numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from hashlib import blake2b
from math import isfinite
from typing import Any

import numpy as np

from harness.catalogue import Case
from harness.catalogue.case import Literal, suites_from
from harness.catalogue.catalogue import Catalogue
from harness.catalogue.lint import lint
from harness.catalogue.literals import MAX_NUMBERS, evaluate
from harness.data import Operands
from harness.oracle import reference
from harness.spec import ConvSpec

#: The family of all cases that were drawn or shrunk.
FAMILY = "fuzz"
WHY = "drawn at random from the whole parameter lattice"
SOURCE = "hand: drawn by convproof fuzz"


def case_of(spec: ConvSpec, *, why: str = WHY, source: str = SOURCE, literal: Literal | None = None) -> Case:
    """A case whose name, and so whose data, are fixed by the specification (and its literal numbers).

    Examples
    --------
    >>> case_of(ConvSpec("conv", (5,), (3,))).id.rpartition("-")[0]
    'fuzz-conv-1d'
    """
    digest = spec.digest if literal is None else blake2b(repr((spec.digest, literal)).encode(), digest_size=8).hexdigest()
    name = f"{FAMILY}-{spec.op.replace('_', '-')}-{spec.rank}d-{digest[:12]}"
    tags = _tags(spec, literal)
    fields = {k: v for k, v in spec.to_dict().items() if v != ConvSpec.__dataclass_fields__[k].default}
    return Case(name, FAMILY, spec, why, source, tags=tags, suites=suites_from("gate"), fields=fields, literal=literal, line=1)


def weak(spec: ConvSpec) -> bool:
    """Whether the catalogue refuses such a case because zeros, the bias or the cropped input would pass it.

    Examples
    --------
    >>> weak(ConvSpec("max_pool", (5,), (1,))), weak(ConvSpec("max_pool", (5,), (2,)))
    (True, False)
    """
    return any(finding.rule == "weak" for finding in lint(Catalogue((case_of(spec),))))


def with_numbers(spec: ConvSpec, ops: Operands, **about: str) -> Case | None:
    """A case with the operands as its literal numbers, and the exact output; None where they cannot be written down.

    They can be where every number is an integer or a short dyadic fraction, and where the output, exact too, is not
    the same everywhere: a constant would pass.
    """
    if any(a is not None and a.size > MAX_NUMBERS for a in (*ops.arrays, np.empty(spec.out_shape, bool))):
        return None
    y = reference(spec, ops).hi
    arrays = [None if a is None else _numbers(a.astype(np.float64)) for a in (*ops.arrays, y)]
    if np.unique(y).size < 2 or any(a is None and b is not None for a, b in zip(arrays, (*ops.arrays, y), strict=True)):
        return None
    x, w, b, out = arrays
    assert x is not None
    assert out is not None
    return case_of(spec, literal=Literal(x, w, b, out), **about)


def _tags(spec: ConvSpec, literal: Literal | None) -> tuple[str, ...]:
    """Tags that the catalogue's rules ask for: a shrunk case may well be square, or its kernel symmetric."""
    square = spec.rank > 1 and len(set(spec.in_size)) < spec.rank
    alike = not spec.is_pool and 1 < spec.in_channels == spec.out_channels
    symmetric = (
        literal is not None
        and literal.w is not None
        and max(spec.kernel_size) > 1
        and evaluate(literal, spec) == evaluate(literal, replace(spec, flip=not spec.flip))
    )
    return ("square",) * (square or alike) + ("symmetric",) * symmetric


def _numbers(a: np.ndarray) -> Any:
    """Nested tuples of integers and of floats whose shortest text is exact; None if there is another number."""
    flat = [_number(v) for v in a.reshape(-1).tolist()]
    return None if any(v is None for v in flat) else _nested(flat, a.shape)


def _number(v: float) -> int | float | None:
    if not isfinite(v):
        return None
    if v == int(v):
        return int(v)
    return v if Fraction(repr(v)) == Fraction(v) else None


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return tuple(_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0]))
