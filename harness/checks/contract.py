"""Check 1: the contract of `Prepared.run`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.checks.base import Check, Problem, Run, always
from harness.records import Status, Verdict

#: Bytes that an output holds before a run, two patterns a type. Floats: NaNs of unlikely payloads. The third, zeros,
#: hides what was not written: a diagnosis tells by it whether a result was added to what was there.
POISONS: Mapping[str, tuple[int, int, int]] = {
    "f16": (0x7E5A, 0x7EA5, 0),
    "bf16": (0x7FDA, 0x7FE5, 0),
    "f32": (0x7FDA5A5A, 0x7FE5A5A5, 0),
    "f64": (0x7FFA5A5A5A5A5A5A, 0x7FFDA5A5A5A5A5A5, 0),
    "i8": (0x5A, 0x25, 0),
    "i32": (0x5A5A5A5A, 0x25A5A5A5, 0),
}


def pattern(name: str, poison: int) -> np.ndarray:
    """The poison of element type `name`, as an unsigned integer of its width, 0-d."""
    value = POISONS[name][poison]
    width = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8, "i8": 1, "i32": 4}[name]
    return np.array(value, dtype=f"u{width}")


def unwritten(out: np.ndarray, name: str, poison: int) -> np.ndarray:
    """Where `out` still holds its poison, bool of its shape."""
    p = pattern(name, poison)
    mask: np.ndarray = out.view(p.dtype) == p
    return mask


def judge(problem: Problem, run: Run) -> Verdict:
    """`run(x, w, b, out)` writes every element of `out` and nothing else.

    Before the call `out` holds a poison, and bands of a known pattern lie before and after each array.
    Afterwards no element holds the poison, every band is as it was, x, w and b have their bytes, and the
    floating-point mode (rounding, flushing) is unchanged. A value that happens to equal the poison (an
    integer may) is told apart by a second run with another poison. Holds for every right backend and
    every specification, the empty output included.

    Examples
    --------
    Two outputs of three are written over the poison: the third shows, as do its bytes.

    >>> import numpy as np
    >>> from harness.checks.contract import pattern, unwritten
    >>> hex(pattern("f32", 0))
    '0x7fda5a5a'
    >>> out = np.full(3, pattern("f32", 0)).view(np.float32)
    >>> out[:2] = [5, -3]
    >>> unwritten(out, "f32", 0).tolist()
    [False, False, True]
    """
    out = problem.output(run, *problem.exact)
    if not problem.spec.out_type.is_float and bool(np.any(maybe := unwritten(out, problem.spec.out_dtype, 0))):
        again = run(problem.data(*problem.exact)[0], poison=1)
        missing = maybe & unwritten(again, problem.spec.out_dtype, 1)
        if bool(np.any(missing)):
            return unwritten_verdict(missing)
    return Verdict(Status.PASS, compared=int(out.size))


def unwritten_verdict(missing: np.ndarray) -> Verdict:
    """The FAIL of an output that was not written whole."""
    index = tuple(int(i) for i in np.argwhere(missing)[0])
    count = int(np.count_nonzero(missing))
    return Verdict(
        Status.FAIL,
        f"{count} of {missing.size} outputs were never written, the first at {list(index)}",
        compared=int(missing.size),
        mismatches=count,
        worst_index=index,
    )


CONTRACT = Check("contract", "writes its whole output and nothing else", judge, always)
