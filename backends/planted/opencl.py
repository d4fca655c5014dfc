"""Faults of the OpenCL kernels: their source with a few words exchanged, run by the same host code.

`mutant` states the words and how often they occur, so that a kernel that changes cannot silently lose its faults:
`applied` raises where they do not occur so often, and a test applies all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from backends.opencl import runtime
from backends.opencl.naive import OpenCLNaive
from backends.planted.fault import FOUND, Fault, hyphened, sentence
from harness.backend import Backend
from harness.spec import ConvSpec


@dataclass(frozen=True)
class Mutation:
    """Words of a kernel file exchanged.

    Attributes
    ----------
    file : str
        `common` or an operation: see `path`.
    old, new : str
    times : int
        How often `old` occurs there; all are exchanged.
    """

    file: str
    old: str
    new: str
    times: int = 1

    def applied(self) -> str:
        """The file's text with the words exchanged.

        Raises
        ------
        ValueError
            If `old` does not occur `times` times.
        """
        text = runtime.source(path(self.file))
        if text.count(self.old) != self.times:
            raise ValueError(f"{path(self.file)} holds {self.old!r} {text.count(self.old)} times, expected {self.times}")
        return text.replace(self.old, self.new)


def path(file: str) -> str:
    """The kernel file that a mutation calls `common` or by its operation."""
    return "common.cl" if file == "common" else f"naive_{file}.cl"


class Mutated(OpenCLNaive):
    """The OpenCL backend with a mutation, or with a host step replaced by a subclass."""

    def __init__(self, name: str, what: str, mutation: Mutation | None = None) -> None:
        super().__init__()
        self.info = replace(OpenCLNaive.info, name=name, summary=what)
        self.mutation = mutation

    def source(self, op: str) -> str:
        """The operation's text, mutated where the mutation is in one of its files."""
        m = self.mutation
        texts = (m.applied() if m and m.file == f else runtime.source(path(f)) for f in ("common", op))
        return "\n".join(texts)


def mutant(
    cls: str, name: str, what: str, file: str, old: str, new: str, *, times: int = 1, kind: str = "value", real: str = ""
) -> None:
    """Plant a mutation of a kernel file as a fault."""
    full = f"opencl-{name}"
    make = partial(Mutated, full, what, Mutation(file, old, new, times))
    FOUND.append(Fault(full, cls, what, kind, make, f"{file}.cl", real, needs="opencl", worker=True))


def host(cls: str, *, kind: str = "value", real: str = "") -> Callable[[type[Mutated]], type[Mutated]]:
    """Plant a subclass of `Mutated` as a fault called after it."""

    def register(found: type[Mutated]) -> type[Mutated]:
        name, what = f"opencl-{hyphened(found.__name__)}", sentence(found.__doc__ or "", {})
        FOUND.append(Fault(name, cls, what, kind, _maker(found, name, what), found.__name__, real, needs="opencl", worker=True))
        return found

    return register


def _maker(found: type[Mutated], name: str, what: str) -> Callable[[], Backend]:
    return lambda: found(name, what)


@host("TAIL", real="Tencent/ncnn#315")
class GlobalSizeRoundedDown(Mutated):
    """The work size is rounded down to whole groups from one group on: the last outputs are not computed."""

    def global_size(self, elements: int, local: int) -> int:
        """Down, not up."""
        return max(1, elements // local) * local


@host("RACE")
class OneGroupTooFew(Mutated):
    """Of several work groups the last is not launched."""

    def global_size(self, elements: int, local: int) -> int:
        """A group less."""
        whole = super().global_size(elements, local)
        return max(local, whole - local)


@host("CACHE")
class ProgramKeyLacksTheType(Mutated):
    """Programs are kept by operation, and their element type is not in the key."""

    def __init__(self, name: str, what: str, mutation: Mutation | None = None) -> None:
        super().__init__(name, what, mutation)
        self._first: dict[str, tuple[str, ...]] = {}

    def options(self, spec: ConvSpec, handle: Any) -> tuple[str, ...]:
        """Those of the operation's first build."""
        return self._first.setdefault(spec.op, super().options(spec, handle))


# Not wrong, as `HalfSumsInSingle`: float32 sums err by less than the float16 sums that the bound allows.
@host("DTYPE", kind="equivalent")
class HalfFlagForgotten(Mutated):
    """Sums in float16 are not asked for."""

    def options(self, spec: ConvSpec, handle: Any) -> tuple[str, ...]:
        """Without -DHALF."""
        return tuple(o for o in super().options(spec, handle) if o != "-DHALF")


@host("COMPILER", kind="nonfinite", real="pocl/pocl#2069")
class FastRelaxedMath(Mutated):
    """Kernels are built with -cl-fast-relaxed-math, which promises the compiler that there are no NaN and infinities."""

    def options(self, spec: ConvSpec, handle: Any) -> tuple[str, ...]:
        """With the option."""
        return (*super().options(spec, handle), "-cl-fast-relaxed-math")


@host("COMPILER", kind="nonfinite")
class FiniteMathOption(Mutated):
    """Kernels are built with -cl-finite-math-only."""

    def options(self, spec: ConvSpec, handle: Any) -> tuple[str, ...]:
        """With the option."""
        return (*super().options(spec, handle), "-cl-finite-math-only")
