"""The shipped catalogue: its sizes, its schema, its lint, its literal numbers."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from harness.catalogue import Case, Catalogue, Literal, load_catalogue, packaged_files
from harness.catalogue.lint import lint
from harness.catalogue.nodes import read
from harness.catalogue.schema import shipped, text
from harness.spec import ConvSpec, SpecError

CATALOGUE = load_catalogue()
LITERAL = [c for c in CATALOGUE.cases if c.literal]
REFUSED = [c for c in CATALOGUE.cases if c.refused]


def by_id(cases):
    return pytest.mark.parametrize("case", cases, ids=[c.id for c in cases])


# --- what there is ----------------------------------------------------------------------------------
def test_smoke_and_gate_are_large_enough_and_cheap_enough():
    smoke, gate = ([c for c in CATALOGUE.select([s]) if c.spec] for s in ("smoke", "gate"))
    assert len(smoke) >= 60
    assert len(gate) >= 150
    assert sum(c.spec.flops for c in smoke) <= 20e6
    assert sum(c.spec.flops for c in gate) <= 1.2e9


def test_every_family_of_the_design_has_cases():
    families = {c.family for c in CATALOGUE.cases}
    assert families >= {"lecture", "arithmetic", "basic", "edge", "invalid", "topology", "regression", "perf"}
    assert families >= {"pairwise", "separable"}
    assert len(REFUSED) >= 30
    assert sum(c.family == "regression" for c in CATALOGUE.cases) >= 40


def test_smoke_alone_reaches_every_op_mode_type_and_rank():
    specs = [c.spec for c in CATALOGUE.select(["smoke"]) if c.spec]
    assert {s.op for s in specs} == {"conv", "conv_transpose", "max_pool", "avg_pool"}
    assert {s.padding_mode for s in specs} == {"zeros", "circular", "reflect", "replicate"}
    assert {s.in_dtype for s in specs} >= {"f16", "bf16", "f32", "f64", "i8"}
    assert {s.rank for s in specs} == {1, 2, 3}
    assert any(s.batch == 0 for s in specs)


def test_circular_cases_keep_their_size_or_are_strided_by_a_divisor():
    """Translation equivariance is checked everywhere on these; there are enough of both kinds."""
    kept = strided = 0
    for s in (c.spec for c in CATALOGUE.select(["gate"]) if c.spec and c.spec.padding_mode == "circular"):
        whole = all(n == o * st for n, o, st in zip(s.in_size, s.out_size, s.stride, strict=True))
        kept += whole and set(s.stride) == {1}
        strided += whole and set(s.stride) != {1}
    assert kept >= 8
    assert strided >= 3


def test_loading_imports_no_numpy():
    code = "import sys, harness.catalogue as c; c.load_catalogue(); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- schema -----------------------------------------------------------------------------------------
def test_the_shipped_schema_is_current():
    """Run `python -m harness.catalogue.schema` if this fails."""
    assert shipped().read_text() == text()


@pytest.mark.parametrize("path", packaged_files(), ids=lambda p: p.name)
def test_the_shipped_files_validate_against_the_schema(path):
    validator = jsonschema.Draft202012Validator(json.loads(shipped().read_text()))
    validator.check_schema(validator.schema)
    assert not list(validator.iter_errors(read(path).plain()))


@pytest.mark.parametrize("damage", [{"strde": 1}, {"stride": "2"}, {"op": "convolve"}, {"id": "Mine"}, {"padding": "same"}])
def test_the_schema_refuses_what_the_loader_refuses(damage):
    entry = {"id": "x-a", "op": "conv", "in_size": [5], "kernel_size": 3, "why": "w", "source": "s"}
    validator = jsonschema.Draft202012Validator(json.loads(shipped().read_text()))
    assert validator.is_valid({"family": "x", "cases": [entry]})
    assert not validator.is_valid({"family": "x", "cases": [entry | damage]})


# --- invalid cases ----------------------------------------------------------------------------------
@by_id(REFUSED)
def test_an_invalid_case_is_refused_with_its_reason(case):
    with pytest.raises(SpecError) as e:
        ConvSpec(**case.fields)
    assert case.refused in str(e.value)


# --- literal numbers --------------------------------------------------------------------------------
def padded_index(i, n, mode):
    """Where np.pad looks, for one position of a padded axis; None where it writes a zero."""
    lo, hi = max(0, -i), max(0, i - n + 1)
    name = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}[mode]
    got = int(np.pad(np.arange(1, n + 1), (lo, hi), mode=name)[i + lo])
    return got - 1 if got else None


def operator(spec):
    """The convolution as a map output -> [(input, tap)], built by scattering inputs, not by gathering taps."""
    axes = []
    for n, m, s, d, (lo, _), out in zip(
        spec.in_size, spec.kernel_size, spec.stride, spec.dilation, spec.padding, spec.out_size, strict=True
    ):
        table = {o: [] for o in range(out)}
        for o, k in itertools.product(range(out), range(m)):
            if spec.op == "conv_transpose":
                table[o] += [(i, k) for i in range(n) if i * s + k * d - lo == o]
            elif (i := padded_index(o * s + k * d - lo, n, spec.padding_mode)) is not None:
                table[o].append((i, k))
        axes.append(table)
    return axes


def independent(case):
    """The literal's output as exact fractions, from object arrays."""
    s, lit = case.spec, case.literal
    x, y = np.array(lit.x, dtype=object), np.empty(s.out_shape, dtype=object)
    w = None if lit.w is None else np.array(lit.w, dtype=object)
    if w is not None and s.flip:
        w = np.flip(w, axis=tuple(range(2, w.ndim)))
    axes = operator(s)
    for at in np.ndindex(*s.out_shape):
        pairs = list(itertools.product(*(table[o] for table, o in zip(axes, at[2:], strict=True))))
        reads = [(tuple(i for i, _ in p), tuple(k for _, k in p)) for p in pairs]
        if s.op == "max_pool":
            y[at] = max(x[(at[0], at[1], *i)] for i, _ in reads)
        elif s.op == "avg_pool":
            y[at] = sum(Fraction(x[(at[0], at[1], *i)]) for i, _ in reads) / len(reads)
        else:
            group = at[1] * s.groups // s.out_channels
            each = s.in_channels // s.groups
            y[at] = Fraction(lit.b[at[1]] if lit.b else 0)
            for c, (i, k) in itertools.product(range(each), reads):
                tap = (group * each + c, at[1] % (s.out_channels // s.groups)) if s.op == "conv_transpose" else (at[1], c)
                y[at] += Fraction(x[(at[0], group * each + c, *i)]) * Fraction(w[(*tap, *k)])
    return y


@by_id(LITERAL)
def test_a_literal_output_is_the_definition_evaluated_exactly(case):
    assert not case.spec.count_include_pad, "independent() divides by real elements"
    assert (np.array(case.literal.y, dtype=object) == independent(case)).all()


def test_the_lecture_filter_toeplitz_matrix_is_the_even_front_case():
    """Entry (i, l) of the lecture's matrix is h_{l - i + floor(m/2) + 1}, for its even m too."""
    case = CATALOGUE.by_id["lecture-toeplitz-even-front"]
    x, h = case.literal.x[0][0], case.literal.w[0][0]
    m, n = len(h), len(x)
    matrix = [[h[t - 1] if 1 <= (t := col - row + m // 2 + 1) <= m else 0 for col in range(n)] for row in range(n)]
    assert [sum(a * b for a, b in zip(r, x, strict=True)) for r in matrix] == list(case.literal.y[0][0])


def test_the_lecture_data_toeplitz_matrix_gives_the_same_output():
    """Row j of the lecture's data matrix, from h_m down to h_1, holds x_{i + j - 1 - floor(m/2)}."""
    case = CATALOGUE.by_id["lecture-toeplitz-odd-wide"]
    x, h = case.literal.x[0][0], case.literal.w[0][0]
    m, n = len(h), len(x)
    columns = [[x[at] if 0 <= (at := i + j - m // 2) < n else 0 for j in reversed(range(m))] for i in range(n)]
    assert [sum(a * b for a, b in zip(reversed(h), col, strict=True)) for col in columns] == list(case.literal.y[0][0])


def test_the_lecture_shift_operators_undo_each_other():
    forward, backward = CATALOGUE.by_id["lecture-shift-forward"].literal, CATALOGUE.by_id["lecture-shift-backward"].literal
    x = forward.x[0][0]
    assert forward.y[0][0] == (x[-1], *x[:-1])
    x = backward.x[0][0]
    assert backward.y[0][0] == (*x[1:], x[0])


# --- lint -------------------------------------------------------------------------------------------
def test_the_shipped_catalogue_has_no_finding():
    assert [str(f) for f in lint(CATALOGUE)] == []


GOOD = Case(
    "mine-a",
    "mine",
    ConvSpec("conv", (5, 7), (3, 2), in_channels=2, out_channels=3),
    "a reason that is long enough",
    "hand: a reason",
)
POOL = ConvSpec("max_pool", (5, 7), (1, 1))
LIT = Literal(((((1, 2, 3),),))[0:1], (((1, 2),),), None, (((5, 8),),))


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("id_style", {"id": "mine_A"}),
        ("id_style", {"id": "mine-" + "a" * 80}),
        ("why", {"why": "short"}),
        ("why", {"why": "the result should be the same"}),
        ("source", {"source": "I made it up"}),
        ("source", {"source": "issue: somewhere"}),
        ("refusal", {"refused": "never", "spec": None, "fields": {"op": "conv", "in_size": (3,), "kernel_size": (2,)}}),
        ("square", {"spec": ConvSpec("conv", (5, 5), (3, 3))}),
        ("square", {"spec": ConvSpec("conv", (5, 6), (3, 3), in_channels=4, out_channels=4)}),
        ("cost", {"spec": ConvSpec("conv", (99, 100), (9, 9), in_channels=8, out_channels=9)}),
        ("cost", {"spec": ConvSpec("conv", (2001, 2100), (1, 1))}),
        ("weak", {"spec": POOL}),
        ("weak", {"spec": ConvSpec("conv", (1,), (1,), padding=((3, 3),), stride=(2,))}),
        (
            "precision",
            {"spec": ConvSpec("conv", (9, 8), (8, 7), in_channels=4, out_channels=3, in_dtype="f16", acc_dtype="f16")},
        ),
        ("precision", {"spec": ConvSpec("conv", (400, 401), (399, 400), in_dtype="i8")}),
        ("worked_numbers", {"spec": ConvSpec("conv", (3,), (2,)), "literal": replace(LIT, y=(((5, 9),),))}),
        (
            "worked_numbers",
            {"spec": ConvSpec("conv", (3,), (2,)), "literal": Literal(LIT.x, (((2, 2),),), None, (((6, 10),),))},
        ),
        ("crop", {"crop_of": "mine-z"}),
    ],
)
def test_each_rule_of_the_linter_finds_what_it_is_for(rule, change):
    assert lint(Catalogue((GOOD,))) == []
    assert rule in {f.rule for f in lint(Catalogue((replace(GOOD, **change),)))}


def test_the_linter_finds_what_only_several_cases_show():
    twin = replace(GOOD, id="mine-b")
    assert {f.rule for f in lint(Catalogue((GOOD, twin)))} == {"duplicate"}
    perf = replace(GOOD, id="mine-b", spec=ConvSpec("conv", (9, 7), (3, 2)), suites=("perf",))
    assert {f.rule for f in lint(Catalogue((GOOD, perf)))} == {"perf-apart"}
    crop = replace(perf, crop_of="mine-a", file="f")
    assert {f.rule for f in lint(Catalogue((GOOD, crop)))} == {"crop"}


def test_the_files_are_a_package_of_data():
    assert {Path(c.file).parent for c in CATALOGUE.cases} == {shipped().parent}
