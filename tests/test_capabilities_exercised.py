"""What a backend declares is exercised, and every reason for which it refuses is reached: from its `Limits`.

Nothing is listed by hand here: capabilities and reasons come from the declarations and from the
source of each rule, so that a new backend, field or reason is held to the same without an edit.
A capability is *used* by a specification if limits that lack it alone refuse the specification.
"""

import ast
import inspect
import re
import textwrap
from collections import Counter
from contextlib import suppress
from dataclasses import fields
from functools import cache
from itertools import product

import pytest

from harness.backend import Limits
from harness.catalogue import load_catalogue
from harness.registry import Registry, load
from harness.spec import ConvSpec, SpecError
from harness.spec.convspec import DTYPE_TRIPLES, OPS, PADDING_MODES

CATALOGUE = load_catalogue()
GATE, EVERY = ([c.spec for c in cases if c.spec] for cases in (CATALOGUE.select(["gate"]), CATALOGUE.cases))
#: Every value of a field that lists what is taken; a dtype by its triple, as any limits may write it.
VALUES = {
    "ops": OPS,
    "ranks": (1, 2, 3),
    "padding_modes": PADDING_MODES,
    "dtypes": tuple(dict.fromkeys(["/".join(t) for t in DTYPE_TRIPLES] + [f"{t[0]}/{t[0]}/{t[0]}" for t in DTYPE_TRIPLES])),
}
#: Legal, and far too large to be run: for reasons that no case of the catalogue can reach.
EXTREME = [ConvSpec("conv", (2**20, 2**20), (512, 512), in_channels=2**20, in_dtype=t) for t in ("i8", "f32")]
FEATURES = tuple(f.name for f in fields(Limits) if f.default is True)
REGISTRY = Registry.installed()


def backends():
    """The limits of every installed backend whose module can be read without its optional imports."""
    return {name: load(REGISTRY.reference(name)).info.limits for name in REGISTRY.entries}


BACKENDS = backends()
each_backend = pytest.mark.parametrize("name", BACKENDS)


def uses(capability):
    """Whether a specification uses the capability, (field, value) or (feature, True)."""
    field, value = capability
    if field in FEATURES:
        without = Limits(**{field: False})
        return lambda spec: without.why_not(spec) is not None
    only = Limits(**{field: (value,)})
    return lambda spec: only.why_not(spec) is None


def capabilities():
    """Every capability that limits can speak of."""
    return [(f, True) for f in FEATURES] + [(f, v) for f, values in VALUES.items() for v in values]


@cache
def probes():
    """Small specifications of three taps and stride 1, which any algorithm takes: each op, type, rank and mode, by feature."""
    used = {
        "dilation": {"dilation": 2}, "groups": {"in_channels": 2, "out_channels": 4, "groups": 2}, "flip": {"flip": True},
        "negative_padding": {"padding": (-1, -1)}, "asymmetric_padding": {"padding": (0, 1)}, "zero_batch": {"batch": 0},
    }  # fmt: skip
    assert set(used) == set(FEATURES), "say how a specification uses a new feature"
    found = []
    for op, types, rank, mode, extra in product(OPS, VALUES["dtypes"], VALUES["ranks"], PADDING_MODES, [{}, *used.values()]):
        each = {k: (v,) * rank if k in ("dilation", "padding") else v for k, v in extra.items()}
        with suppress(SpecError):
            a, b, c = types.split("/")
            found.append(
                ConvSpec(op, (9,) * rank, (3,) * rank, padding_mode=mode, in_dtype=a, acc_dtype=b, out_dtype=c, **each)
            )
    return found


def declared(limits):
    """Every capability with which the limits take anything, and every one with which they take nothing."""
    taken = [s for s in [*probes(), *EVERY] if limits.why_not(s) is None]
    has = [c for c in capabilities() if any(map(uses(c), taken))]
    return has, [c for c in capabilities() if c not in has]


USERS: dict = {}


def users(capability):
    """The catalogue's specifications that use it."""
    if capability not in USERS:
        USERS[capability] = list(filter(uses(capability), EVERY))
    return USERS[capability]


def exercised(limits, specs):
    """How many of the specifications that the limits take use each declared capability, alone and with each op."""
    taken = [s for s in specs if limits.why_not(s) is None]
    has = [(c, uses(c)) for c in declared(limits)[0]]
    count = Counter({(c,): 0 for c, _ in has})
    for spec in taken:
        used = [c for c, used_by in has if used_by(spec)]
        count.update((c,) for c in used)
        count.update(product([c for c in used if c[0] == "ops"], [c for c in used if c[0] != "ops"]))
    return count


def templates(rule):
    """A pattern for each reason that the source of a rule returns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and node.value is not None:
            found += [p for p in map(_pattern, _branches(node.value)) if p is not None]
    return found


def _branches(value):
    return [*_branches(value.body), *_branches(value.orelse)] if isinstance(value, ast.IfExp) else [value]


def _pattern(value):
    if isinstance(value, ast.Constant):
        return None if value.value is None else re.escape(value.value)
    assert isinstance(value, ast.JoinedStr), f"a reason is a text: {ast.unparse(value)}"
    return "".join(re.escape(v.value) if isinstance(v, ast.Constant) else ".+" for v in value.values)


# --- the built-in backends --------------------------------------------------------------------------
def test_the_fields_of_limits_are_the_ones_looked_at():
    sizes = {"least_taps", "most_taps", "most_stride"}  # of which what is taken follows from the cases themselves
    assert {f.name for f in fields(Limits)} == {*FEATURES, *VALUES, *sizes, "rule"}


@each_backend
def test_the_gate_exercises_every_declared_capability(name):
    alone = {c: n for c, n in exercised(BACKENDS[name], GATE).items() if len(c) == 1}
    assert [c for c, n in alone.items() if not n] == []


@each_backend
def test_the_gate_exercises_with_each_op_whatever_the_catalogue_does(name):
    limits = BACKENDS[name]
    correctness = [c.spec for c in CATALOGUE.select(["full"]) if c.spec]
    assert set(exercised(limits, correctness)) - set(exercised(limits, GATE)) == set()


@each_backend
def test_every_capability_that_is_not_declared_is_refused_somewhere(name):
    limits = BACKENDS[name]
    for capability in declared(limits)[1]:
        assert users(capability), f"no case uses {capability}"
        assert all(limits.why_not(s) for s in users(capability)), capability


@each_backend
def test_every_reason_of_its_rule_is_reached(name):
    limits = BACKENDS[name]
    if limits.rule is None:
        return
    left = templates(limits.rule)
    assert left, "a rule returns its reasons as texts"
    for spec in EVERY + EXTREME:
        if (reason := limits.why_not(spec)) is not None:
            left = [t for t in left if not re.fullmatch(t, reason)]
        if not left:
            return
    raise AssertionError(f"no case is refused for {left}")


# --- the check itself -------------------------------------------------------------------------------
def test_a_capability_without_a_case_is_found():
    flat = [ConvSpec("conv", (5, 7), (3, 3))]
    count = exercised(Limits(), flat)
    assert count[("ops", "conv"),] == 1
    assert count[("ops", "max_pool"),] == 0
    assert count[("dilation", True),] == 0


def test_what_limits_declare_follows_their_fields():
    has, lacks = declared(Limits(ops=("conv",), dtypes=("f32", "f16/f16/f16"), ranks=(2,), dilation=False))
    assert ("ops", "conv") in has
    assert {v for f, v in has if f == "dtypes"} == {"f32/f32/f32", "f16/f16/f16"}
    assert {("ranks", 1), ("dilation", True), ("ops", "avg_pool")} <= set(lacks)


def test_a_reason_that_nothing_reaches_is_found():
    def rule(spec: ConvSpec) -> str | None:
        if spec.rank == 9:
            return f"{spec.rank} axes"
        return None if spec.batch else "no images"

    assert set(templates(rule)) == {r".+\ axes", r"no\ images"}
