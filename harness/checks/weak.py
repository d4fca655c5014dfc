"""Whether a case could have failed: the decoys.

Outputs that need no convolution are judged like a backend's. A decoy that passes every data check of a
case shows that the case proves nothing, and its passes become WEAK (oneDNN's MISTRUSTED, made exact).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from harness.data import Operands
from harness.oracle import Reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

#: Elements that are looked at first.
SAMPLE = 16


def decoys(spec: ConvSpec, ops: Operands) -> Iterator[tuple[str, np.ndarray]]:
    """Outputs that a backend could give without computing: zeros, the bias, the input cropped or tiled."""
    put = numpy_dtype(spec.out_dtype)
    yield "zeros", np.zeros(spec.out_shape, put)
    if ops.b is not None:
        yield "the bias alone", np.broadcast_to(ops.b.reshape(1, -1, *(1,) * spec.rank), spec.out_shape).astype(put)
    copies = [-(-o // i) if i else 1 for o, i in zip(spec.out_shape, spec.x_shape, strict=True)]
    tiled = np.tile(ops.x, copies)[tuple(slice(o) for o in spec.out_shape)]
    yield "the input itself", tiled.astype(put)


def passing(spec: ConvSpec, ops: Operands, ref: Reference, tol: np.ndarray | None) -> tuple[str, ...]:
    """Names of the decoys that would pass this comparison; a few elements rule most of them out."""
    from harness.checks.compare import error

    limit = np.broadcast_to(0.0 if tol is None else tol, spec.out_shape)
    some = np.unravel_index(np.linspace(0, prod(spec.out_shape) - 1, SAMPLE).astype(np.intp), spec.out_shape)
    few = Reference(ref.hi[some], None if ref.lo is None else ref.lo[some], ref.scale[some])
    return tuple(
        name
        for name, y in decoys(spec, ops)
        if bool(np.all(error(y[some], few, spec, equal=tol is None) <= limit[some]))
        and bool(np.all(error(y, ref, spec, equal=tol is None) <= limit))
    )


def weaken(verdicts: Mapping[str, Verdict], data_checks: frozenset[str]) -> dict[str, Verdict]:
    """Turn the data checks' passes into WEAK where one decoy passes them all.

    Parameters
    ----------
    verdicts : mapping of check name to Verdict
        Of one case on one backend.
    data_checks : frozenset of str
        Names of the checks whose data decide.
    """
    judged = {n: v for n, v in verdicts.items() if n in data_checks and "decoys" in v.details}
    if not judged:
        return dict(verdicts)
    common = set.intersection(*(set(v.details["decoys"]) for v in judged.values()))
    if not common:
        return dict(verdicts)
    text = f"the case proves nothing: {' and '.join(sorted(common))} would pass too"
    return {
        n: replace(v, status=Status.WEAK, message=text) if n in judged and v.status is Status.PASS else v
        for n, v in verdicts.items()
    }
