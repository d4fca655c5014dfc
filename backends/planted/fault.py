"""What a planted fault is, and how a step of a right backend becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from backends.planted.right import Planned, Right
from harness.backend import Backend

#: Classes of faults that real convolution code has had.
CLASSES: Mapping[str, str] = {
    "TAIL": "vector and tile remainders, channel packing",
    "WINO": "Winograd, FFT and TF32: error or wrong tiles",
    "STRDIL": "stride and dilation arithmetic, a parameter ignored",
    "LAYOUT": "strides, memory format",
    "UNINIT": "memory not initialised, not written, or beyond the bounds",
    "TRANSP": "transposed convolution",
    "NAN": "NaN, Inf, subnormal numbers, the identity of max",
    "HALO": "boundary, whole window in padding, crop",
    "SAMEPAD": "`same` padding worked out anew",
    "PADASYM": "asymmetric padding",
    "IDXOVF": "index overflow",
    "CACHE": "stale plan, weights or results",
    "RACE": "threads, concurrent calls",
    "CHAN": "group and channel map",
    "BORDER": "circular, reflect and replicate padding",
    "OUTSIZE": "size of the output",
    "CEIL": "ceil for floor, and the overhang of ceil_mode",
    "DIVISOR": "divisor of an average",
    "EMPTY": "zero batch",
    "ACC": "precision of operands and sums, saturation",
    "NONDET": "equal calls, unequal results",
    "BATCH": "samples of a batch",
    "ALIAS": "an operand written",
    "FLIP": "orientation of the kernel",
    "ANCHOR": "place of the kernel",
    "DTYPE": "element type mistaken",
    "COMPILER": "options and transformations of a compiler",
    "ISA": "an instruction set's own arithmetic",
    "EPILOGUE": "bias, activation",
}
#: What may count as a kill: a FAIL that compares finite values; one that compares values, NaN and Inf among them;
#: any FAIL (of the contract); a CRASH, an ERROR or any FAIL. No check may fail what is equivalent: it is no fault.
KINDS = ("value", "nonfinite", "contract", "crash", "equivalent")


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes
    ----------
    name : str
        Unique, words joined by `-`; `backends.planted:` and the name with `_` is a reference to its backend.
    cls : str
        One of `CLASSES`.
    what : str
        The fault in a sentence.
    kind : str
        One of `KINDS`.
    make : callable
        () -> the wrong backend, with no state from before.
    mutation : str
        The class or function that it is an instance of; several faults of one mutation differ in parameters.
    real : str
        A bug of the same kind in a public tracker, `owner/repository#number`; or empty.
    named : tuple of str
        Diagnoses that tell this fault rightly.
    needs : str
        What it needs besides NumPy: `opencl` or nothing.
    worker : bool
        Whether it must not run in the caller's process: it may die, needs a driver, or differs by the environment.
    ci : bool
        Whether it is of the subset that every commit is held to.
    """

    name: str
    cls: str
    what: str
    kind: str
    make: Callable[[], Backend] = field(repr=False, compare=False)
    mutation: str
    real: str = ""
    named: tuple[str, ...] = ()
    needs: str = ""
    worker: bool = False
    ci: bool = False

    @property
    def attribute(self) -> str:
        """Its name in `backends.planted`."""
        return self.name.replace("-", "_")

    @property
    def reference(self) -> str:
        """What `--backend` takes."""
        return f"backends.planted:{self.attribute}"


#: Every fault, in the order of planting.
FOUND: list[Fault] = []
_Algorithm = TypeVar("_Algorithm", bound=type[Right])
Parameters = Mapping[str, Any]


def each(name: str, *values: Any) -> tuple[Parameters, ...]:
    """A parameter and its values.

    Examples
    --------
    >>> each("width", 4, 8)
    ({'width': 4}, {'width': 8})
    """
    return tuple({name: v} for v in values)


def planted(
    cls: str, kind: str = "value", *, real: str = "", over: Iterable[Parameters] = ({},), **info: Any
) -> Callable[[_Algorithm], _Algorithm]:
    """Register a subclass of `Right` as a fault called after it, once for each set of parameters.

    Parameters
    ----------
    cls, kind, real : str
        See `Fault`.
    over : iterable of mappings
        Class attributes; their values end the name and fill the docstring's braces.
    **info
        Fields of `BackendInfo` that the wrong backend declares.
    """

    def register(algorithm: _Algorithm) -> _Algorithm:
        base = hyphened(algorithm.__name__)
        for parameters in over:
            name = "-".join([base, *(str(v).replace("-", "minus-").replace("_", "-") for v in parameters.values())])
            what = sentence(algorithm.__doc__ or "", parameters)
            variant = type(algorithm.__name__, (algorithm,), dict(parameters))
            FOUND.append(Fault(name, cls, what, kind, _maker(name, variant, what, info), algorithm.__name__, real))
        return algorithm

    return register


def _maker(name: str, algorithm: type[Right], what: str, info: Parameters) -> Callable[[], Backend]:
    return lambda: Planned(name, algorithm, **{"summary": what, **algorithm.declares, **info})


def hyphened(name: str) -> str:
    """The words of a class's name.

    Examples
    --------
    >>> hyphened("FftDeclaredDirect"), hyphened("AccumulatesInF16"), hyphened("Tf32")
    ('fft-declared-direct', 'accumulates-in-f16', 'tf32')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def sentence(doc: str, parameters: Parameters) -> str:
    """The docstring's text on one line, its braces filled."""
    return " ".join(doc.split()).format(**parameters)
