"""The recipes: the same bits anywhere and in any order, within the ranges that make sums exact, of the shapes asked."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, specs

from harness.data import RECIPES, SEEDED, Operands, draw
from harness.data.raw import nonzero_integers, s_fill, words
from harness.data.recipes import exact_budget, tap_order
from harness.oracle import fsum_reference, reference
from harness.oracle.windows import outer
from harness.spec import DTYPES, ConvSpec
from harness.spec.host import numpy_dtype

SPEC = ConvSpec("conv", (7, 9), (3, 3), in_channels=3, out_channels=2, bias=True)
#: Recipes whose key holds a number after the case's name.
NUMBERED = {"tap_impulses", "identity_tap", "identity_input", "near_overflow"}
#: Digests of the draws below, by recipe.
PINNED = {
    "integers": "099681de8a4b6714",
    "input_impulses": "1e7003b13ddf0be2",
    "tap_impulses": "7c0015bc682c050c",
    "identity_tap": "2d1b6eb4d584c4d7",
    "identity_input": "813b97e752958d19",
    "zero_mean": "b5290d2ab31cc50b",
    "positive": "db16a670d09b8637",
    "graded": "227dd5395480cb19",
    "wide_range": "140ddb3621203e29",
    "denormal": "01a5e4aa2c8eecd0",
    "near_overflow": "efdd4b4d283a1c35",
}
SCRIPT = """
from harness.data import RECIPES, draw
from harness.spec import ConvSpec
spec = ConvSpec("conv", (7, 9), (3, 3), in_channels=3, out_channels=2, bias=True)
for recipe in reversed([r for r in RECIPES if r != "saturating"]):
    print(recipe, draw(recipe, spec, "a-case", 7, 1).digest)
"""


def some(recipe, spec, seed=7):
    return draw(recipe, spec, "a-case", seed, *([1] if recipe in NUMBERED else []))


def recipes(spec):
    """Those that hold for `spec`: with weights, of real numbers."""
    for recipe in RECIPES:
        if recipe in ("tap_impulses", "identity_tap") and spec.is_pool:
            continue
        if recipe == "saturating" and (spec.is_pool or spec.in_dtype != "i8"):
            continue
        if recipe in SEEDED and not spec.in_type.is_float:
            continue
        yield recipe


def test_the_bits_of_a_draw_never_change():
    """Stored results and cached references are named by them; numpy's distributions take no part."""
    got = {recipe: draw(recipe, SPEC, "a-case", 7, 1).digest for recipe in RECIPES if recipe != "saturating"}
    assert got == PINNED


def test_another_process_in_another_order_draws_the_same_bits():
    out = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    assert dict(line.split() for line in out.splitlines()) == PINNED


def test_words_are_a_pure_function_of_their_key():
    assert [hex(v) for v in words(2, "a", 1).tolist()] == ["0xc55b7a9bb1677237", "0x6a57b0fd8f11a15d"]
    np.testing.assert_array_equal(words(100, "a", 1)[:10], words(10, "a", 1))
    assert not np.array_equal(words(4, "a", 1), words(4, "a", 2))


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r != "saturating"])
def test_only_seeded_recipes_follow_the_seed_and_all_follow_the_case(recipe):
    one, two = (some(recipe, SPEC, seed).digest for seed in (1, 2))
    assert (one != two) == (recipe in SEEDED)
    assert draw(recipe, SPEC, "another-case", 1, 1).digest != one


@examples(120)
@given(specs(), st.integers(0, 9))
def test_operands_have_the_shapes_and_types_asked(spec, seed):
    for recipe in recipes(spec):
        ops = some(recipe, spec, seed)
        shapes = (spec.x_shape, spec.w_shape, spec.b_shape)
        for a, shape, name in zip(ops.arrays, shapes, (spec.in_dtype, spec.in_dtype, spec.acc_dtype), strict=True):
            assert (a is None) == (shape is None)
            if a is not None:
                assert (a.shape, a.dtype) == (shape, numpy_dtype(name))
                assert a.flags.c_contiguous
                assert np.all(np.isfinite(a.astype(np.float64)))


@examples(150)
@given(specs())
def test_integer_recipes_keep_every_sum_exact(spec):
    """sum |w||x| + |b| of every output, in rational arithmetic, is within 2**p of the accumulator."""
    if spec.op == "max_pool":
        return
    for recipe in ("integers", "input_impulses") + (() if spec.is_pool else ("tap_impulses",)):
        ops = some(recipe, spec)
        for a in ops.arrays:
            assert a is None or np.array_equal(a.astype(np.float64), np.rint(a.astype(np.float64)))
        assert largest_sum(spec, ops) <= exact_budget(spec) <= spec.acc_type.exact_limit


def largest_sum(spec, ops):
    size = fsum_reference(spec, Operands(*(None if a is None else np.abs(a.astype(np.float64)) for a in ops.arrays)))
    if spec.is_pool:
        size = np.rint(size * outer(spec.divisor_counts))
    return int(np.max(size, initial=0))


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_a_kernel_beyond_the_budget_is_thinned_and_not_everywhere_at_the_same_taps(op, mode):
    """2500 taps in a float16 accumulator that holds 2048: a share of the weights is 0, another one an output channel."""
    if op == "conv_transpose" and mode != "zeros":
        return
    spec = ConvSpec(op, (60, 60), (50, 50), out_channels=3, padding_mode=mode, padding=((3, 3),) * 2,
                    in_dtype="f16", acc_dtype="f16", out_dtype="f16", bias=True)  # fmt: skip
    for recipe in ("integers", "input_impulses"):
        w = some(recipe, spec).w.astype(np.float64)
        rows = np.moveaxis(w, 1 if op == "conv_transpose" else 0, 0).reshape(3, -1)
        if recipe == "integers" or mode != "zeros":
            assert np.all(np.sum(np.abs(rows), 1) <= 2048 - 100)
            assert not np.array_equal(rows[0] != 0, rows[1] != 0)
            assert np.all(np.any(rows != 0, 1))
            seen = np.any(rows != 0, 0)
            assert seen.mean() > 0.9


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-3, 5), (-127, 127), (1, 6), (-6, -1), (0, 3)])
def test_nonzero_integers_fill_their_range_evenly_and_leave_out_zero(low, high):
    v = nonzero_integers(words(40_000, low, high), low, high)
    values, counts = np.unique(v, return_counts=True)
    assert values.tolist() == [i for i in range(low, high + 1) if i != 0]
    expected = 40_000 / len(values)
    assert np.all(np.abs(counts - expected) < 6 * np.sqrt(expected))


@examples(60)
@given(specs(ops=("conv", "conv_transpose"), most=100))
def test_integers_are_nonzero_where_the_budget_allows(spec):
    ops = some("integers", spec)
    for a in ops.arrays:
        assert a is None or np.all(a.astype(np.float64) != 0)


@pytest.mark.parametrize("name", ["f16", "bf16", "f32", "f64"])
def test_the_s_fill_uses_every_bit_of_the_significand_and_has_zero_mean(name):
    t, n = DTYPES[name], 20_000
    v = s_fill(words(n, "s", name), t).astype(np.float64)
    assert np.all((np.abs(v) >= 1) & (np.abs(v) < 2))
    assert abs(np.sum(np.sign(v))) < 5 * np.sqrt(n)
    assert abs(np.mean(np.abs(v)) - 1.5) < 0.02
    bits = ((np.abs(v) - 1) * 2.0 ** (t.precision - 1)).astype(np.int64)
    for i in range(t.precision - 1):
        ones = np.count_nonzero(bits >> i & 1)
        assert abs(ones - n / 2) < 5 * np.sqrt(n) / 2
        assert abs(np.sum(np.where(bits >> i & 1, np.sign(v), 0))) < 5 * np.sqrt(n)


def test_the_bias_of_real_recipes_lies_in_1_to_4():
    spec = ConvSpec("conv", (5,), (3,), out_channels=500, bias=True)
    b = np.abs(some("zero_mean", spec).b)
    assert np.all((b >= 1) & (b < 4))
    assert np.count_nonzero(b > 2) > 150


@given(st.integers(1, 400), st.integers(0, 3))
@examples(150)
def test_the_walk_over_the_taps_is_a_permutation(taps, lap):
    walk = [tap_order(taps, lap * taps + i) for i in range(taps)]
    assert sorted(walk) == list(range(taps))
    assert walk[:2] == [0, taps - 1][: min(taps, 2)]


@examples(150)
@given(specs(ops=("conv", "conv_transpose", "avg_pool")))
def test_no_output_sees_two_impulses_where_padding_is_zeros(spec):
    if spec.padding_mode != "zeros":
        return
    ops = some("input_impulses", spec)
    assert np.count_nonzero(ops.x) > 0
    ones = np.ones_like(ops.w) if ops.w is not None else None
    bare = ConvSpec.from_dict(spec.to_dict() | {"bias": False})
    seen = fsum_reference(bare, Operands(np.abs(ops.x), ones))
    if spec.is_pool:
        seen = seen * outer(spec.divisor_counts)
    assert np.max(np.rint(seen), initial=0) <= 1


@examples(60)
@given(specs(ops=("conv", "conv_transpose"), most=100))
def test_tap_impulses_have_one_tap_an_output_channel(spec):
    w = some("tap_impulses", spec).w.astype(np.float64)
    assert set(np.unique(w)) <= {0.0, 1.0}
    if spec.op == "conv":
        assert np.all(w.reshape(spec.out_channels, -1).sum(1) == 1)
    else:
        per = w.reshape(spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups, -1)
        assert np.all(per.sum((1, 3)) == 1)


@pytest.mark.parametrize("name", ["bf16", "f16", "i8"])
def test_where_values_must_recur_no_row_or_channel_repeats_the_last(name):
    """bf16 holds 512 nonzero integers; planes of 512 elements, or rows of 254 in int8, are different all the same."""
    for size in ((16, 32), (32, 32), (64, 64), (4, 254)):
        x = some("tap_impulses", ConvSpec("conv", size, (1, 1), in_channels=3, in_dtype=name)).x.astype(np.float64)[0]
        assert not np.any(x[0] == x[1])
        assert not np.any(x[1] == x[2])
        assert not np.any(x[:, 1:] == x[:, :-1])
        assert not np.any(x[:, :, 1:] == x[:, :, :-1])


def test_distinct_integers_are_distinct():
    x = some("tap_impulses", ConvSpec("conv", (40, 40), (1, 1), in_channels=2)).x
    assert len(np.unique(x)) == x.size
    assert not np.any(x == 0)


def test_a_digest_tells_apart_values_types_and_shapes():
    x = np.arange(6, dtype=np.float32)
    found = {
        Operands(a, w).digest
        for a in (x, x + 1, x.astype(np.float64), x.reshape(2, 3), x.reshape(3, 2))
        for w in (None, np.zeros(0, np.float32))
    }
    assert len(found) == 10


def test_real_recipes_are_exact_multiples_of_their_fill():
    """Scaling by powers of two rounds nothing: graded and wide-range data have full significands or fewer, never more."""
    for recipe in ("graded", "wide_range", "near_overflow"):
        x = some(recipe, SPEC).x
        for v in x.reshape(-1)[:20]:
            m = Fraction(float(v))
            assert m.numerator.bit_length() <= 24 or m.denominator == 1


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec("conv", (17,), (5,)),
        ConvSpec("conv", (12, 13), (3, 3), padding=((1, 1),) * 2),
        ConvSpec("conv", (12, 13), (3, 3), stride=(2, 2)),
        ConvSpec("conv", (12, 13), (5, 2), dilation=(2, 3)),
        ConvSpec("conv", (6, 7, 8), (3, 3, 3), stride=(2, 2, 2)),
        ConvSpec("conv_transpose", (6, 7), (3, 3)),
        ConvSpec("conv_transpose", (6, 7), (4, 4), stride=(2, 2)),
        ConvSpec("conv_transpose", (9, 9), (5, 5), stride=(3, 2), dilation=(2, 1)),
    ],
    ids=str,
)
def test_graded_data_leave_many_outputs_that_read_small_elements_alone(spec):
    """Where an output's A is small, a transform's error, which follows the whole input, stands out."""
    ops = some("graded", spec)
    size = fsum_reference(spec, Operands(np.abs(ops.x), np.abs(ops.w)))
    assert np.mean((size > 0) & (size < 2**12)) >= 0.25
    assert np.any(np.abs(ops.x) >= 2**12)


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
def test_the_largest_sum_of_bytes_is_odd_and_beyond_what_float32_counts(op):
    spec = ConvSpec(op, (3, 4), (1, 2), in_channels=2048, out_channels=4, groups=2, in_dtype="i8")
    y = reference(spec, draw("saturating", spec, "a-case", 0)).hi
    assert np.max(y) > 2**24
    assert bool(np.any(y[y > 2**24] % 2 == 1))
