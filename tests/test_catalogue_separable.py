"""Separable cases: their kernels come apart, and the passes give their y."""

from dataclasses import replace

import pytest

from harness.catalogue import Literal, load_catalogue
from harness.catalogue.lint import lint
from harness.catalogue.literals import evaluate
from harness.catalogue.separable import findings, in_channels, in_space, outer_factors
from harness.spec import ConvSpec

CATALOGUE = load_catalogue()
SEPARABLE = [c for c in CATALOGUE.cases if {"separable", "depthwise-separable"} & set(c.tags)]


def test_both_senses_have_eight_cases_in_the_gate():
    held = [c for c in SEPARABLE if "gate" in c.suites]
    assert len(held) >= 8
    assert sum("depthwise-separable" in c.tags for c in held) >= 2


@pytest.mark.parametrize("case", SEPARABLE, ids=lambda c: c.id)
def test_a_separable_case_is_two_passes_or_more(case):
    assert list(findings(case)) == []
    split = in_channels if "depthwise-separable" in case.tags else in_space
    passes = split(case.spec, case.literal.w)
    assert len(passes) == (2 if split is in_channels else case.spec.rank)
    assert passes[-1][0].out_shape == case.spec.out_shape


@pytest.mark.parametrize("name", ["separable-uneven", "separable-depthwise-pointwise"])
def test_another_output_or_a_kernel_that_is_no_product_is_a_finding(name):
    case = CATALOGUE.by_id[name]
    lit = case.literal

    def changed(tensor):
        first = tensor
        while isinstance(first[0], tuple):
            first = first[0]
        return (first[0] + 1, *first[1:]) if first is tensor else (changed(tensor[0]), *tensor[1:])

    wrong_y = replace(case, literal=replace(lit, x=changed(lit.x), y=lit.y))
    assert list(findings(wrong_y)) == []  # y itself is the rule worked_numbers' affair
    assert {f.rule for f in lint(replace(CATALOGUE, cases=(wrong_y,)))} == {"worked_numbers"}
    (found,) = findings(replace(case, literal=replace(lit, w=changed(lit.w))))
    assert "no such product" in found
    (found,) = findings(replace(case, literal=None))
    assert "literal numbers" in found


def test_a_kernel_of_rank_two_has_no_factors():
    assert outer_factors(((1, 2), (2, 4)), (2, 2)) == [[1, 2], [1, 2]]
    assert outer_factors(((0, 0), (0, 5)), (2, 2)) == [[0, 5], [0, 1]]
    assert outer_factors(((1, 2), (2, 5)), (2, 2)) is None


def test_a_sum_over_channels_is_not_separable_in_space():
    spec = ConvSpec("conv", (3, 4), (2, 2), in_channels=2)
    assert in_space(spec, ((((1, 1), (1, 1)), ((1, 1), (1, 1))),)) is None


def test_the_block_of_mobilenetv2_is_its_three_passes():
    """Expand, depthwise and project hand their y on, and end where the one dense kernel does."""
    expand, depthwise, project, block = (
        CATALOGUE.by_id[f"separable-mobilenetv2-{n}"].literal for n in ("expand", "depthwise", "project", "block")
    )
    assert depthwise.x == expand.y
    assert project.x == depthwise.y
    assert (block.x, block.y) == (expand.x, project.y)
    terms = range(len(expand.w))
    for o, c, i, j in ((o, c, i, j) for o in range(3) for c in range(2) for i in range(3) for j in range(3)):
        dense = sum(project.w[o][e][0][0] * depthwise.w[e][0][i][j] * expand.w[e][c][0][0] for e in terms)
        assert block.w[o][c][i][j] == dense


def test_the_tag_alone_is_checked_by_the_linter():
    good = CATALOGUE.by_id["separable-uneven"]
    w = ((((6, -2), (21, -7), (3, 1)),),)
    y = evaluate(Literal(good.literal.x, w, None, ()), good.spec)
    rows = tuple(tuple(y[0, 0, i, j] for j in range(5)) for i in range(3))
    wrong = replace(good, literal=Literal(good.literal.x, w, None, ((rows,),)))
    assert "separable" in {f.rule for f in lint(replace(CATALOGUE, cases=(wrong,)))}
