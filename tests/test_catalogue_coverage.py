"""The parameter lattice: levels, which pairs are possible, and that the suites reach them."""

import random
from collections import Counter

import pytest

from harness.catalogue import load_catalogue
from harness.catalogue.conflicts import CONFLICTS, feasible, why_impossible
from harness.catalogue.construct import construct
from harness.catalogue.coverage import FACTORS, classify, coverage, every_pair, levels_of, pairs
from harness.catalogue.pairwise import entry, shipped, text
from harness.spec import ConvSpec, SpecError
from harness.spec.convspec import DTYPE_TRIPLES, OPS, PADDING_MODES

CATALOGUE = load_catalogue()


def specs(*patterns):
    return [c.spec for c in CATALOGUE.select(patterns) if c.spec]


# --- what the suites reach --------------------------------------------------------------------------
def test_full_holds_650_cases_and_every_possible_pair():
    found = coverage(specs("full"))
    assert len(CATALOGUE.select(["full"])) >= 650
    assert found.missing == ()
    assert found.share == 1.0
    assert len(found.covered) + len(found.impossible) == len(every_pair())


def test_the_generated_family_alone_has_every_possible_pair_in_tiny_cases():
    """So that no edit of another file can lose one."""
    family = specs("pairwise-*")
    assert coverage(family).missing == ()
    assert max(s.flops for s in family) < 1e6


def test_gate_has_every_possible_pair_too():
    """The generated cases cost a megaflop together, so that the gate has them all."""
    assert coverage(specs("gate")).share == 1.0


def test_the_generated_file_is_current():
    """Run `python -m harness.catalogue.pairwise --write` if this fails."""
    assert shipped().read_text() == text()


def test_a_generated_id_says_what_it_is_and_changes_with_its_content():
    one = entry(ConvSpec("conv", (5,), (3,)), 1).splitlines()[0]
    other = entry(ConvSpec("conv", (6,), (3,)), 1).splitlines()[0]
    assert one.startswith("  - id: pairwise-conv1d-f32-")
    assert one != other
    assert one == entry(ConvSpec("conv", (5,), (3,)), 7).splitlines()[0]


# --- levels -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "factor", "level"),
    [
        ({"padding": ((1, 1),)}, "padding", "same"),
        ({"padding": ((2, 2),)}, "padding", "symmetric"),
        ({"padding": ((2, 0),)}, "padding", "asymmetric"),
        ({"padding": ((3, 0),)}, "padding", "beyond-kernel"),
        ({"padding": ((3, 0),), "dilation": (2,)}, "padding", "asymmetric"),
        ({"padding": ((-1, 3),)}, "padding", "negative"),
        ({"kernel_size": (4,), "padding": ((1, 2),)}, "padding", "same"),
        ({"kernel_size": (4,), "padding": ((2, 1),)}, "padding", "same"),
        ({"op": "conv_transpose", "padding": ((0, 1),), "stride": (2,)}, "padding", "same"),
        ({"op": "conv_transpose", "padding": ((1, 1),), "stride": (2,)}, "padding", "symmetric"),
        ({"stride": (3,)}, "stride", "uniform"),
        ({"stride": (4,)}, "stride", "beyond-kernel"),
        ({"in_size": (2,), "padding": ((1, 1),)}, "kernel", "beyond-input"),
        ({"kernel_size": (4,)}, "kernel", "even"),
        ({"in_channels": 6, "out_channels": 4, "groups": 2}, "groups", "some"),
        ({"in_channels": 2, "out_channels": 2, "groups": 2}, "groups", "depthwise"),
        ({"in_channels": 2, "out_channels": 4, "groups": 2}, "groups", "multiplier"),
        ({"in_channels": 16}, "in_channels", "8k"),
        ({"out_channels": 9}, "out_channels", "not-8k"),
        ({"batch": 3}, "batch", "many"),
        ({"in_dtype": "f16", "acc_dtype": "f16"}, "dtypes", "f16/f16/f16"),
    ],
)
def test_a_specification_has_the_level_that_its_fields_say(fields, factor, level):
    spec = ConvSpec(**{"op": "conv", "in_size": (7,), "kernel_size": (3,)} | fields)
    assert classify(spec)[factor] == level


def test_an_empty_batch_counts_for_the_pairs_of_its_batch_alone():
    found = pairs([ConvSpec("conv", (5,), (3,), batch=0)])
    assert len(found) == len(FACTORS) - 1
    assert all(("batch", "0") in p for p in found)


# --- what is possible -------------------------------------------------------------------------------
def drawn(rng):
    """A random small specification, or None where it is refused."""
    rank, op = rng.choice((1, 1, 2, 2, 3)), rng.choice(OPS)
    pool = op.endswith("_pool")

    def sizes(low, high):
        return rng.choice((tuple(rng.randint(low, high) for _ in range(rank)), (rng.randint(low, high),) * rank))

    i = rng.choice((1, 2, 3, 4, 6, 8, 16))
    groups = 1 if pool else rng.choice([g for g in range(1, i + 1) if i % g == 0])
    o = i if pool else groups * rng.choice((1, 1, 2, 3, 8))
    low = -2 if op == "conv" and rng.random() < 0.3 else 0
    stride, some = sizes(1, 4), rng.random() < 0.5
    try:
        return ConvSpec(
            op, sizes(1, 7), sizes(1, 4), rng.randint(0, 2), i, o, stride,
            tuple((rng.randint(low, 3), rng.randint(low, 3) if some else 1) for _ in range(rank)),
            "zeros" if op != "conv" or low else rng.choice(PADDING_MODES), sizes(1, 3), groups,
            tuple(rng.randrange(s) for s in stride) if op == "conv_transpose" else (),
            not pool and some, not pool and rng.random() < 0.5, pool and some, op == "avg_pool" and rng.random() < 0.5,
            *(rng.choice(DTYPE_TRIPLES) if op != "max_pool" else (rng.choice(("f32", "bf16", "i8")),) * 3),
        )  # fmt: skip
    except SpecError:
        return None


def test_no_specification_has_levels_that_conflict():
    """A rule that says too much would make a coverage of 100 % of too little."""
    rng, seen = random.Random(1), 0
    for _ in range(6000):
        if (spec := drawn(rng)) is None:
            continue
        levels = classify(spec)
        held = [c.reason for c in CONFLICTS if c.holds(levels) and not c.reason.endswith("copies its input")]
        assert held == [], spec
        seen += 1
    assert seen > 2000


def test_every_pair_that_is_not_impossible_is_in_a_case():
    """A rule that says too little would leave a pair that nothing can reach: the two tests pin the rules from both sides."""
    reached = pairs(specs("full"))
    assert [p for p in every_pair() if (why_impossible(p) is None) != (p in reached)] == []


def test_every_impossible_pair_has_a_reason_of_its_own():
    reasons = Counter(coverage([]).impossible.values())
    assert sum(reasons.values()) > 100
    assert not any(why.startswith("no choice of") for why in reasons)


def test_levels_that_conflict_are_infeasible_and_the_others_are_not():
    for conflict in CONFLICTS:
        assert not feasible((f, min(v)) for f, v in conflict.levels.items()), conflict.reason
    assert feasible(())


def test_a_constructed_specification_has_the_levels_asked_for():
    for spec in specs("pairwise-*")[:20]:
        again = construct(classify(spec), 3)
        assert again is not None
        assert levels_of(again) == levels_of(spec)


def test_a_construction_that_cannot_be_is_none():
    levels = classify(ConvSpec("conv", (5,), (3,)))
    assert construct(levels | {"op": "max_pool", "bias": "yes"}) is None
