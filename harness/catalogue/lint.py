"""Rules for the catalogue as data, beyond what makes an entry well-formed. Each is a function.

Apart from the loader: a finding is a matter of quality (a case that proves little, costs too
much, or does not say why it is there), and an adopter's own file may break these rules and run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

from harness.catalogue.case import Case
from harness.catalogue.catalogue import Catalogue
from harness.catalogue.literals import evaluate, pick
from harness.catalogue.matrices import defined
from harness.catalogue.models import ID
from harness.catalogue.separable import findings
from harness.spec import ConvSpec, SpecError

#: FLOPs that a case of a suite may cost (DESIGN, section 3; smoke is a tenth).
MOST_FLOPS = {"smoke": 2_000_000, "gate": 20_000_000}
#: FLOPs of the whole gate: two backends, some ten data recipes each, well under a minute on two cores.
MOST_GATE_FLOPS = 1_200_000_000
#: Bytes of all operands of a case in the gate.
MOST_BYTES = 16_000_000
#: Products that a float16 accumulator sums: 4 * 4 * 128 = 2**11, beyond which small integers are not exact.
MOST_F16_PRODUCTS = 128
#: A reason shorter than this says nothing.
LEAST_WHY = 20
_SOURCE = re.compile(r"(lecture|paper|issue|doc|hand): \S.{6,}")
_ISSUE = re.compile(r"issue: [\w.-]+/[\w.-]+#[0-9]+\b")
#: Families whose sources fix the sizes, squares included.
_GIVEN_SIZES = {"arithmetic", "topology", "regression", "perf"}


@dataclass(frozen=True)
class Finding:
    """One thing wrong with the catalogue.

    Attributes
    ----------
    rule : str
        Name of the rule.
    case : str
        Id of the case; empty for the catalogue as a whole.
    where : str
        ``file:line``.
    message : str
    """

    rule: str
    case: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: [{self.rule}] {self.case}: {self.message}"


def lint(catalogue: Catalogue) -> list[Finding]:
    """Every finding, rule by rule in the catalogue's order.

    Examples
    --------
    >>> from harness.catalogue import load_catalogue
    >>> lint(load_catalogue())
    []
    """
    found = [
        Finding(rule.__name__.lstrip("_"), case.id, case.where, message)
        for case in catalogue.cases
        for rule in _RULES
        for message in rule(case)
    ]
    return (
        found + list(_duplicates(catalogue)) + list(_crops(catalogue)) + list(_total(catalogue)) + list(_perf_apart(catalogue))
    )


def _id_style(case: Case) -> Iterator[str]:
    if not ID.fullmatch(case.id):
        yield "the id takes lower-case words and digits joined by hyphens"
    if len(case.id) > 72:
        yield f"the id has {len(case.id)} characters: it is part of file names, 72 at most"


def _why(case: Case) -> Iterator[str]:
    if len(case.why) < LEAST_WHY:
        yield f"why is too short to be a reason: {case.why!r}"
    if re.search(r"\b(should|must|ought)\b", case.why):
        yield f"why states a fact, not a wish: {case.why!r}"
    if case.why.endswith("."):
        yield "why is a clause without a full stop"


def _source(case: Case) -> Iterator[str]:
    if not _SOURCE.fullmatch(case.source):
        yield f"source {case.source!r}: it begins 'lecture: ', 'paper: ', 'issue: ', 'doc: ' or 'hand: ' and says where or why"
    if case.source.startswith("issue: ") and not _ISSUE.match(case.source):
        yield f"source {case.source!r}: an issue is owner/repository#number"
    if case.family == "regression" and not case.source.startswith("issue: "):
        yield "a regression cites the issue of a real bug"


def _refusal(case: Case) -> Iterator[str]:
    """An invalid case is refused by `SpecError`, with the reason it names."""
    if (case.family == "invalid") != (case.refused is not None):
        yield "the family invalid holds refused cases, and only those"
    if case.refused is None:
        return
    try:
        ConvSpec(**case.fields)
    except SpecError as e:
        if case.refused not in str(e):
            yield f"refused for another reason: {str(e)!r} does not contain {case.refused!r}"
    else:
        yield "the specification is accepted"


def _square(case: Case) -> Iterator[str]:
    """Equal sizes hide exchanged axes, equal channel counts a transposed weight."""
    s = case.spec
    if s is None or case.family in _GIVEN_SIZES or "square" in case.tags:
        return
    if s.rank > 1 and len(set(s.in_size)) < s.rank:
        yield f"in_size {list(s.in_size)} repeats a size: make the axes differ, or tag the case square"
    if not s.is_pool and 1 < s.in_channels == s.out_channels:
        yield f"{s.in_channels} channels in and out: make them differ, or tag the case square"


def _cost(case: Case) -> Iterator[str]:
    s = case.spec
    if s is None:
        return
    for suite, most in MOST_FLOPS.items():
        if suite in case.suites and s.flops > most:
            yield f"{s.flops / 1e6:.1f} MFLOP: {suite} takes at most {most / 1e6:.0f}; crop it or move it to a larger suite"
    if "gate" in case.suites and s.bytes > MOST_BYTES:
        yield f"{s.bytes / 1e6:.1f} MB: the gate takes at most {MOST_BYTES / 1e6:.0f}"


def _weak(case: Case) -> Iterator[str]:
    """Cases that an output of zeros, of the bias, or of the cropped input would pass."""
    s = case.spec
    if s is None or s.batch == 0:
        return
    if s.accumulation_length == 0:
        yield "no output reads any data: zeros or the bias pass"
    if s.is_pool and s.accumulation_length == 1 and (prod(s.out_size) == 1 or set(s.stride) == {1}):
        yield "every window holds one element: the cropped input passes"
    if case.literal is not None and len({*_flat(case.literal.y)}) < 2:
        yield "all numbers of the literal output are equal: a constant passes"


def _precision(case: Case) -> Iterator[str]:
    s = case.spec
    if s is None or s.is_pool:
        return
    if s.acc_dtype == "i32" and s.accumulation_length * 128 * 128 + 4 >= 2**31:
        yield f"{s.accumulation_length} products of int8 can pass 2**31"
    if s.acc_dtype == "f16" and s.accumulation_length > MOST_F16_PRODUCTS:
        yield f"{s.accumulation_length} products in a float16 accumulator: {MOST_F16_PRODUCTS} at most, for exact integers"


def _worked_numbers(case: Case) -> Iterator[str]:
    """A literal output equals the definition, and a symmetric filter cannot tell a flip."""
    lit, s = case.literal, case.spec
    if lit is None or s is None:
        return
    for index, want in evaluate(lit, s).items():
        if pick(lit.y, index) != want:
            yield f"literal y{list(index)} is {pick(lit.y, index)}, the definition gives {want}"
            return
    if lit.w is not None and max(s.kernel_size) > 1 and "symmetric" not in case.tags:
        flipped = replace(s, flip=not s.flip)
        if evaluate(lit, flipped) == evaluate(lit, s):
            yield "the flipped filter gives the same output: use an asymmetric one, or tag the case symmetric"


def _written_matrix(case: Case) -> Iterator[str]:
    """A written matrix equals the definition, entry by entry."""
    if case.matrix is None or case.literal is None or case.spec is None:
        return
    for r, (row, right) in enumerate(zip(case.matrix.rows, defined(case.matrix, case.literal, case.spec), strict=True)):
        for c, (got, want) in enumerate(zip(row, right, strict=True)):
            if got != want:
                yield f"the {case.matrix.view} matrix holds {got} at row {r}, column {c}, the definition gives {want}"
                return


def _separable(case: Case) -> Iterator[str]:
    """A case that is tagged separable is so: its passes, one after the other, give its y."""
    yield from findings(case)


def _flat(tensor: object) -> Iterator[object]:
    if isinstance(tensor, tuple):
        for inner in tensor:
            yield from _flat(inner)
    else:
        yield tensor


def _duplicates(catalogue: Catalogue) -> Iterator[Finding]:
    """Two ids of a family with one specification; literals with other numbers differ."""
    seen: dict[object, Case] = {}
    for case in catalogue.cases:
        key = (case.family, case.version or repr(sorted(case.fields.items())), case.literal, case.photo)
        if (first := seen.setdefault(key, case)) is not case:
            yield Finding("duplicate", case.id, case.where, f"the same specification as {first.id} at {first.where}")


def _crops(catalogue: Catalogue) -> Iterator[Finding]:
    """A crop and its original differ in space alone."""
    for case in catalogue.cases:
        if case.crop_of is None:
            continue
        whole = catalogue.by_id.get(case.crop_of)
        if whole is None or whole.spec is None or case.spec is None:
            yield Finding("crop", case.id, case.where, f"crop_of names {case.crop_of!r}, which is no case")
        elif replace(case.spec, in_size=whole.spec.in_size) != whole.spec:
            yield Finding("crop", case.id, case.where, f"{case.spec} is no crop of {whole.spec}")


def _total(catalogue: Catalogue) -> Iterator[Finding]:
    total = sum(c.spec.flops for c in catalogue.cases if c.spec and "gate" in c.suites)
    if total > MOST_GATE_FLOPS:
        yield Finding("total", "", "gate", f"{total / 1e6:.0f} MFLOP: the gate takes at most {MOST_GATE_FLOPS / 1e6:.0f}")


def _perf_apart(catalogue: Catalogue) -> Iterator[Finding]:
    """Performance and correctness cases are in separate files."""
    kinds: dict[str, set[bool]] = {}
    for case in catalogue.cases:
        kinds.setdefault(case.file, set()).add("perf" in case.suites)
    for file, kind in kinds.items():
        if len(kind) > 1:
            yield Finding("perf-apart", "", file, "the file mixes perf with correctness cases: split it")


_RULES: tuple[Callable[[Case], Iterator[str]], ...] = (
    _id_style,
    _why,
    _source,
    _refusal,
    _square,
    _cost,
    _weak,
    _precision,
    _worked_numbers,
    _separable,
    _written_matrix,
)
