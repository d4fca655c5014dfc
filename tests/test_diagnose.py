"""A wrong output is named by what reproduces it; a right one, and noise, by nothing."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from right_numpy import NOWHERE, Right
from wrong_backends import backends, significant

from harness.catalogue import load_catalogue
from harness.checks import CHECKS
from harness.cli import main
from harness.data import Operands, draw
from harness.diagnose import HYPOTHESES, Evidence, diagnose
from harness.diagnose.model import Model
from harness.diagnose.where import describe
from harness.oracle import reference
from harness.records import Status
from harness.run.campaign import Campaign
from harness.run.runner import Options
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype

#: Everything about it differs from axis to axis, so that each fault gives another output than any other.
RICH = ConvSpec(
    "conv", (13, 19), (3, 4), batch=2, in_channels=6, out_channels=8, groups=2, stride=(2, 3), dilation=(3, 2),
    padding=((1, 4), (3, 2)), bias=True, flip=True,
)  # fmt: skip
PLAIN = ConvSpec("conv", (9, 11), (3, 3), batch=2, in_channels=5, out_channels=5, padding=((1, 1), (2, 0)), bias=True)
TRANSPOSED = ConvSpec(
    "conv_transpose", (5, 6), (3, 4), in_channels=4, out_channels=3, stride=(3, 2), padding=((1, 0), (2, 1)),
    output_padding=(2, 1), bias=True,
)  # fmt: skip
MAX = ConvSpec("max_pool", (11, 9), (3, 2), in_channels=2, stride=(2, 1), padding=((1, 1), (0, 1)), batch=2)
AVG = ConvSpec(
    "avg_pool", (11, 9), (3, 4), in_channels=2, stride=(2, 3), padding=((1, 1), (2, 0)), count_include_pad=True, ceil_mode=True
)
CIRCULAR = ConvSpec("conv", (9, 11), (3, 5), in_channels=2, out_channels=3, padding=((1, 0), (2, 3)), padding_mode="circular")
REFLECT = replace(CIRCULAR, padding_mode="reflect")
REPLICATE = replace(CIRCULAR, padding_mode="replicate")
BYTES = replace(PLAIN, in_dtype="i8", acc_dtype="i32", out_dtype="i32", in_channels=6)
WIDE = ConvSpec("conv", (4, 19), (1, 3), in_channels=3, out_channels=12)


def operands(spec, recipe="integers", *more):
    """The operands of a recipe."""
    return draw(recipe, spec, "diagnose", 7, *more)


def right(spec, ops):
    """The right output."""
    return reference(spec, ops).hi.astype(numpy_dtype(spec.out_dtype))


def by(name):
    """The output of one of `wrong_backends`."""
    return lambda spec, ops: getattr(backends, name).algorithm()(spec, *ops.arrays)


def on(change):
    """The right output on changed operands."""
    return lambda spec, ops: right(spec, change(spec, ops))


def then(change):
    """The right output, changed."""

    def wrong(spec, ops):
        y = right(spec, ops)
        return change(spec, y).astype(y.dtype)

    return wrong


def reading(**steps):
    """The output of `Right` with a step replaced."""
    return lambda spec, ops: type("Wrong", (Right,), steps)()(spec, *ops.arrays)


def weights(change):
    return on(lambda spec, ops: replace(ops, w=np.ascontiguousarray(change(ops.w)).reshape(ops.w.shape)))


def inputs(change):
    return on(lambda spec, ops: replace(ops, x=np.ascontiguousarray(change(ops.x)).reshape(ops.x.shape)))


def biases(change):
    return on(lambda spec, ops: replace(ops, b=change(ops.b)))


def positions(change):
    """Coordinates changed: (spec, axis, coordinates) -> coordinates."""
    return reading(positions=lambda self, spec, axis: change(spec, axis, Right.positions(self, spec, axis)))


def sources(change):
    return reading(sources=lambda self, spec, axis: change(spec, axis, Right.sources(self, spec, axis)))


def kept(value, spec, y):
    """`y` with rows of its last axis from index `spec` on replaced."""
    y[..., -3:] = value
    return y


def in_rows(change):
    """A change of the columns from 9 on in every 16."""

    def wrong(spec, y):
        at = np.arange(y.shape[-1]) % 16 >= 9
        return np.where(at, change(y), y)

    return wrong


def rolled(spec, y):
    moved = np.roll(y, 1, -1)
    moved[..., 0] = y[..., 0]
    return moved


def _longer(spec):
    return replace(spec, kernel_size=(4, 2), padding=((1, 2), (0, 1)))


def _cut(spec, y):
    """Float32 cut to bfloat16."""
    return (y.view(np.uint32) >> 16 << 16).view(np.float32)


#: (id, specification, fault, recipe): each is named among the first findings.
FAULTS = {
    "flip_ignored": ("flipped_kernel", RICH, by("flipped_kernel"), "integers"),
    "one_axis_flipped": ("flipped_kernel", PLAIN, weights(lambda w: w[..., ::-1]), "integers"),
    "kernel_transposed": ("kernel_transposed", PLAIN, weights(lambda w: w.swapaxes(2, 3)), "integers"),
    "pads_swapped": ("pads_swapped", RICH, by("pads_swapped"), "integers"),
    "pads_of_axes": (
        "pads_of_axes_swapped",
        PLAIN,
        positions(lambda s, i, at: at + s.axes[i].lo - s.axes[1 - i].lo),
        "integers",
    ),
    "interleaved": ("pads_of_axes_swapped", RICH, by("pads_interleaved"), "integers"),
    "circular_axes": ("pads_of_axes_swapped", CIRCULAR, by("circular_axes_swapped"), "integers"),
    "symmetric": ("symmetric_padding", RICH, by("pads_made_symmetric"), "integers"),
    "same_side": (
        "same_side",
        replace(PLAIN, kernel_size=(4, 4), padding=((1, 2), (1, 2))),
        positions(lambda s, i, at: at - 1),
        "integers",
    ),
    "no_padding": ("padding_ignored", RICH, positions(lambda s, i, at: at + s.axes[i].lo), "integers"),
    "crop_ignored": ("padding_ignored", replace(PLAIN, padding=((-2, 1), (1, -3))), by("crop_ignored"), "integers"),
    "reflect_repeats": ("padding_mode", REFLECT, by("reflect_repeats_the_edge"), "integers"),
    "circular_zeros": ("padding_mode", CIRCULAR, by("circular_reads_zeros"), "integers"),
    "replicate_one_in": ("padding_mode", REPLICATE, by("replicate_reads_one_in"), "integers"),
    "padding_of_7": (
        "padding_constant",
        PLAIN,
        reading(views=lambda self, spec, x, fill=0: Right.views(self, spec, x, 7)),
        "integers",
    ),
    "first_column_masked": ("edge_masked", PLAIN, by("first_column_masked"), "integers"),
    "empty_window": (
        "empty_window",
        replace(WIDE, padding=((0, 0), (1, 5))),
        by("window_in_padding_copies_its_neighbour"),
        "integers",
    ),
    "stride_dilation": ("stride_dilation_swapped", RICH, by("stride_dilation_swapped"), "integers"),
    "stride_of_axis": ("stride_of_axis", RICH, by("stride_of_the_first_axis"), "integers"),
    "stride_ignored": (
        "stride_ignored",
        RICH,
        positions(lambda s, i, at: at - np.arange(len(at))[:, None] * (s.axes[i].s - 1)),
        "integers",
    ),
    "dilation_ignored": ("dilation_ignored", RICH, by("dilation_ignored"), "integers"),
    "dilation_of_axis": (
        "dilation_of_axis",
        RICH,
        by("dilation_of_the_first_axis"),
        "integers",
    ),
    "dilation_one_more": (
        "dilation_off_by_one",
        RICH,
        positions(lambda s, i, at: at + np.arange(at.shape[1])),
        "integers",
    ),
    "ceil_for_floor": ("ceil_floor", RICH, by("ceil_for_floor"), "integers"),
    "taps_late": ("shifted_taps", PLAIN, positions(lambda s, i, at: at + 3 * (i == 1)), "integers"),
    "output_shifted": ("shifted_output", PLAIN, then(rolled), "integers"),
    "float16_indices": ("index_limit", ConvSpec("conv", (4099,), (1,)), by("indices_in_f16"), "integers"),
    "input_turned": ("input_axes_transposed", PLAIN, inputs(lambda x: x.swapaxes(2, 3)), "integers"),
    "row_pitch": ("input_axes_transposed", PLAIN, by("row_pitch_of_the_other_axis"), "integers"),
    "output_turned": (
        "output_transposed",
        PLAIN,
        then(lambda s, y: np.ascontiguousarray(y.swapaxes(2, 3)).reshape(y.shape)),
        "integers",
    ),
    "input_mirrored": ("flipped_input", PLAIN, inputs(lambda x: x[..., ::-1]), "integers"),
    "output_mirrored": ("flipped_output", PLAIN, then(lambda s, y: y[..., ::-1, :]), "integers"),
    "nhwc": ("layout_nhwc", PLAIN, inputs(lambda x: np.moveaxis(x, 1, -1)), "integers"),
    "nhwc_output": ("layout_nhwc", PLAIN, then(lambda s, y: np.moveaxis(y, 1, -1).copy().reshape(y.shape)), "integers"),
    "weights_in_first": ("weights_io_swapped", PLAIN, by("weights_in_first"), "integers"),
    "group_0": ("group_map", RICH, by("every_group_reads_group0"), "integers"),
    "group_modulo": ("group_map", RICH, by("group_is_modulo"), "integers"),
    "channels_reversed": ("channel_order", PLAIN, inputs(lambda x: x[:, ::-1]), "integers"),
    "filters_rolled": ("channel_order", PLAIN, weights(lambda w: np.roll(w, 1, 0)), "integers"),
    "channels_of_4": (
        "channels_dropped",
        PLAIN,
        weights(lambda w: np.concatenate([w[:, :4], 0 * w[:, 4:]], 1)),
        "integers",
    ),
    "last_tap": (
        "dropped_tap",
        PLAIN,
        sources(lambda s, i, at: np.where(np.arange(at.shape[1]) == 2, NOWHERE, at)),
        "integers",
    ),
    "last_slice_twice": (
        "channels_repeated",
        PLAIN,
        weights(lambda w: np.concatenate([w[:, :4], 2 * w[:, 4:]], 1)),
        "integers",
    ),
    "products_in_bfloat16": (
        "accumulation_precision",
        PLAIN,
        reading(product=lambda self, spec, view, w: _in_bfloat16(view, w)),
        "zero_mean",
    ),
    "taps_swapped": ("swapped_taps", PLAIN, weights(lambda w: w[..., [1, 0, 2]]), "integers"),
    "no_bias": ("bias_ignored", RICH, by("bias_ignored"), "integers"),
    "bias_twice": ("bias_twice", RICH, by("bias_twice"), "integers"),
    "bias_subtracted": ("bias_sign", RICH, biases(np.negative), "integers"),
    "bias_of_group_0": ("bias_channel", RICH, by("bias_of_the_wrong_group"), "integers"),
    "first_item": ("batch_items", PLAIN, by("first_sample_for_all"), "integers"),
    "relu": ("activation", PLAIN, then(lambda s, y: np.maximum(y, 0)), "integers"),
    "doubled": ("scaled", PLAIN, then(lambda s, y: 2 * y), "integers"),
    "absolute_input": ("operands_swapped", PLAIN, inputs(np.abs), "integers"),
    "last_writer": ("overwritten", TRANSPOSED, by("last_writer_wins"), "integers"),
    "output_padding": ("output_padding_zero", TRANSPOSED, by("output_padding_is_zero"), "integers"),
    "not_cropped": (
        "transpose_padding",
        TRANSPOSED,
        lambda spec, ops: right(replace(spec, padding=((0, 1), (0, 3))), ops),
        "integers",
    ),
    "not_reversed": ("flipped_kernel", TRANSPOSED, weights(lambda w: w[:, :, ::-1, ::-1]), "integers"),
    "transposed_weights": ("weights_io_swapped", TRANSPOSED, by("transposed_weights_out_first"), "integers"),
    "unsigned": ("integer_reinterpreted", BYTES, by("unsigned_bytes"), "integers"),
    "wraps": ("wrapped", BYTES, by("sum_wraps_to_int16"), "saturating"),
    "clipped_to_16_bits": ("saturated", BYTES, then(lambda s, y: np.clip(y, -(2**15), 2**15 - 1)), "saturating"),
    "max_from_zero": ("max_identity_zero", MAX, by("max_starts_from_zero"), "integers"),
    "window_longer": (
        "window_tap",
        MAX,
        lambda s, ops: right(replace(s, kernel_size=(4, 2), padding=((1, 2), (0, 1))), ops),
        "integers",
    ),
    "average_for_max": (
        "pool_kind",
        replace(AVG, padding=((1, 1), (0, 0))),
        lambda s, ops: right(s, ops) * 0 + _max(s, ops),
        "integers",
    ),
    "divides_by_k": ("divisor", replace(AVG, count_include_pad=False), by("avg_always_divides_by_k"), "integers"),
    "overhang": ("divisor", AVG, by("overhang_counted"), "integers"),
    "tf32": ("input_precision", PLAIN, by("tf32"), "zero_mean"),
    "bfloat16": ("input_precision", PLAIN, by("bfloat16_operands"), "zero_mean"),
    "weights_in_12_bits": ("input_precision", PLAIN, weights(lambda w: significant(w, 12)), "zero_mean"),
    "two_terms": ("input_precision", PLAIN, by("two_bfloat16_terms"), "zero_mean"),
    "float16_sums": ("accumulation_precision", PLAIN, by("accumulates_in_f16"), "zero_mean"),
    "float16_results": ("output_rounding", PLAIN, then(lambda s, y: y.astype(np.float16)), "zero_mean"),
    "bfloat16_truncated": (
        "output_rounding",
        PLAIN,
        then(lambda s, y: (y.view(np.uint32) >> 16 << 16).view(np.float32)),
        "zero_mean",
    ),
    "subnormals": ("flush_denormals", PLAIN, by("flushes_subnormals"), "denormal"),
    "aligned": ("fixed_point", replace(PLAIN, bias=False), by("fixed_point32"), "graded"),
    "column_tail": ("tail", replace(WIDE, in_size=(4, 35)), then(in_rows(lambda y: y + 1 + y % 7)), "integers"),
    "zero_tail": ("not_computed", WIDE, then(lambda s, y: kept(0, s, y)), "integers"),
    "wrong_channel": ("tail", WIDE, then(lambda s, y: np.where(np.arange(12)[:, None, None] >= 8, y // 3 + 5, y)), "integers"),
    "border": ("border_only", PLAIN, then(lambda s, y: _bordered(s, y)), "integers"),
}


def _in_bfloat16(view, w):
    """One tap's products, each rounded to bfloat16."""
    products = w[None, :, :, :, None, None] * view[:, :, None]
    return products.astype(ml_dtypes.bfloat16).astype(np.float32).sum(3)


def _max(spec, ops):
    return right(replace(spec, op="max_pool", acc_dtype="f32", count_include_pad=False), ops)


def _bordered(spec, y):
    """Wrong where a window touches the padding."""
    inside = np.zeros(y.shape, bool)
    inside[:, :, 1:-1, 2:] = True
    return np.where(inside, y, y // 2 + 3)


def evidence(spec, ops, out, **more):
    """The evidence of an output, judged by equality on integers and by eight units elsewhere."""
    ref = reference(spec, ops)
    whole = all(np.array_equal(a, np.rint(a)) for a in ops.arrays if a is not None) and spec.op != "avg_pool"
    unit = spec.acc_type.unit_roundoff + (spec.out_type.unit_roundoff if spec.out_dtype != spec.acc_dtype else 0)
    size = ref.scale if ops.b is None else ref.scale + np.abs(ops.b.astype(np.float64)).reshape(1, -1, *(1,) * spec.rank)
    tol = None if whole or not spec.out_type.is_float else 8 * unit * size + spec.out_type.tiny * spec.out_type.unit_roundoff
    return Evidence(spec, ops, out, tol, **more)


def found(spec, ops, out, **more):
    return diagnose(evidence(spec, ops, out, **more), seconds=5)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault):
    name, spec, wrong, recipe = FAULTS[fault]
    ops = operands(spec, recipe)
    with np.errstate(all="ignore"):
        findings = found(spec, ops, wrong(spec, ops))
    assert name in [f.id for f in findings[:3]], [(f.id, f.text) for f in findings]
    (named,) = (f for f in findings if f.id == name)
    assert named.text
    assert named.matched == named.of > 0 or named.matched >= 0.9 * named.of


def test_every_hypothesis_that_is_not_of_the_list_above_has_a_test_of_its_own():
    elsewhere = {
        "stale_weights", "stale_output", "channels_compacted", "nan_dropped", "nan_spread", "infinity_clipped",
        "transposed_for_conv", "misplaced_output",
    }  # fmt: skip
    assert {h.id for h in HYPOTHESES} - {name for name, *_ in FAULTS.values()} == elsewhere
    assert len({h.id for h in HYPOTHESES}) == len(HYPOTHESES) >= 35
    assert all(h.text.endswith(".") for h in HYPOTHESES)


#: Hypotheses that are one offset or one step in other words.
SYNONYMS = (
    {
        "pads_swapped", "symmetric_padding", "pads_of_axes_swapped", "shifted_taps", "padding_ignored", "same_side",
        "ceil_floor",
    },
    {"dilation_of_axis", "dilation_off_by_one", "dilation_ignored", "stride_of_axis", "stride_ignored"},
)  # fmt: skip


@pytest.mark.parametrize(
    "fault", [name for name, (_, spec, _, recipe) in FAULTS.items() if spec is RICH and recipe == "integers"]
)
def test_where_every_parameter_differs_a_fault_has_one_name(fault):
    """No other hypothesis reproduces the whole output, but for those that are the same offset or step in other words."""
    name, spec, wrong, recipe = FAULTS[fault]
    ops = operands(spec, recipe)
    exact = [f.id for f in found(spec, ops, wrong(spec, ops)) if f.exact]
    assert name in exact
    alike = next((group for group in SYNONYMS if name in group), {name})
    assert set(exact) <= alike


@pytest.mark.parametrize("spec", [RICH, PLAIN, TRANSPOSED, MAX, AVG, CIRCULAR, BYTES, WIDE], ids=str)
@pytest.mark.parametrize("recipe", ["integers", "zero_mean"])
def test_a_right_output_has_no_finding(spec, recipe):
    if recipe == "zero_mean" and not spec.in_type.is_float:
        recipe = "saturating"
    ops = operands(spec, recipe)
    assert found(spec, ops, Right()(spec, *ops.arrays)) == ()


@pytest.mark.parametrize(
    "types", [("f16", "f32", "f16"), ("bf16", "f32", "bf16"), ("f64", "f64", "f64"), ("i8", "i32", "i32")], ids="/".join
)
@pytest.mark.parametrize(
    ("name", "change"), [("flipped_kernel", lambda w: w[..., ::-1, ::-1]), ("swapped_taps", lambda w: w[..., [1, 0, 2]])]
)
def test_a_fault_is_named_in_every_type(types, name, change):
    spec = replace(PLAIN, in_dtype=types[0], acc_dtype=types[1], out_dtype=types[2])
    for recipe in ("integers", "zero_mean" if spec.in_type.is_float else "integers"):
        ops = operands(spec, recipe)
        findings = found(spec, ops, weights(change)(spec, ops))
        assert findings[0].id == name
        assert findings[0].exact


@pytest.mark.parametrize("spec", [RICH, PLAIN, TRANSPOSED, MAX, AVG, BYTES], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_name(spec, seed):
    ops = operands(spec)
    random = np.random.default_rng(seed)
    y = right(spec, ops)
    noise = random.permutation(y.reshape(-1)).reshape(y.shape)
    assert found(spec, ops, noise) == ()


@pytest.mark.parametrize("spec", [RICH, PLAIN, TRANSPOSED, BYTES], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_few_outputs_that_are_wrong_anywhere_have_no_name(spec, seed):
    ops = operands(spec)
    random = np.random.default_rng(seed)
    y = right(spec, ops)
    at = random.choice(y.size, 9, replace=False)
    y.reshape(-1)[at] += random.integers(1, 100, 9).astype(y.dtype)
    assert found(spec, ops, y) == ()


def test_an_output_of_one_element_tells_too_little_to_be_named():
    spec = ConvSpec("conv", (3,), (3,))
    ops = operands(spec)
    assert [f for f in found(spec, ops, right(spec, ops) + 5) if f.exact] == []


def test_it_ends_in_time_on_a_case_of_the_gates_largest_size():
    spec = ConvSpec("conv", (28, 28), (3, 3), in_channels=48, out_channels=32, padding=((1, 1), (1, 1)))
    assert spec.flops > 15e6
    ops = operands(spec, "zero_mean")
    out = right(spec, ops)[..., ::-1, ::-1].copy() + 1
    started = time.perf_counter()
    findings = diagnose(evidence(spec, ops, out), seconds=0.5)
    assert time.perf_counter() - started < 2.5
    assert [f for f in findings if f.exact] == []


def test_a_partial_fault_says_where():
    """The kernel is reversed in the tail of a vector loop alone."""
    spec = replace(WIDE, in_size=(4, 35))
    ops = operands(spec)
    y, flipped = right(spec, ops), by("flipped_kernel")(spec, ops)
    at = np.arange(y.shape[-1]) % 16 >= 9
    (first, *_) = found(spec, ops, np.where(at, flipped, y))
    assert first.id == "flipped_kernel"
    assert not first.exact
    assert first.text == "matches the oracle with the kernel reversed along H and W, only where out_w mod 16 >= 9"
    assert first.place == "tail"


def test_a_remainder_that_begins_at_the_wrong_place_is_told_by_what_it_holds():
    spec = replace(WIDE, in_size=(4, 21))
    ops = operands(spec)
    y = right(spec, ops)
    y[..., 16:] = y[..., 2:5].copy()
    findings = found(spec, ops, y)
    assert [f.id for f in findings[:1]] == ["misplaced_output"]
    assert "out_w" in findings[0].text
    assert "belongs at" in findings[0].text


def test_stale_operands_are_named():
    old, now = operands(PLAIN), operands(PLAIN, "zero_mean")
    mixed = replace(now, w=old.w)
    assert found(PLAIN, now, right(PLAIN, mixed), earlier=(old,))[0].id == "stale_weights"
    assert found(PLAIN, now, right(PLAIN, old), earlier=(old,))[0].id == "stale_output"
    assert found(PLAIN, now, right(PLAIN, mixed)) == ()


def test_zeros_that_are_skipped_are_named():
    ops = operands(PLAIN)
    x = ops.x.copy()
    x[:, [0, 3]] = 0
    sparse = replace(ops, x=x)
    out = by("skips_zero_channels")(PLAIN, sparse)
    assert "channels_compacted" in [f.id for f in found(PLAIN, sparse, out) if f.exact]


def test_a_transposed_convolution_computed_as_a_convolution_is_named():
    spec = replace(TRANSPOSED, padding=((1, 1), (1, 1)), kernel_size=(4, 4), output_padding=(0, 0), stride=(2, 2))
    ops = operands(spec)
    axes = [replace(a, lo=a.extent - 1 - a.lo) for a in spec.axes]
    model = Model.of(spec, ops).laid_out(axes)
    model = replace(model, w=np.flip(model.w, (2, 3)))
    out = model.at(np.stack(np.unravel_index(np.arange(np.prod(spec.out_shape)), spec.out_shape), -1)).reshape(spec.out_shape)
    assert "transposed_for_conv" in [f.id for f in found(spec, ops, out.astype(np.float32)) if f.exact]


def test_not_a_number_that_is_dropped_or_spread_is_named():
    ops = operands(MAX)
    x = ops.x.copy()
    x[0, 1, 4, 4] = np.nan
    dropped = by("max_swallows_nan")(MAX, Operands(x))
    assert found(MAX, Operands(x), dropped)[0].id == "nan_dropped"
    spec = replace(PLAIN, bias=False)
    ops = operands(spec)
    x = ops.x.copy()
    x[1, 2, 3, 4] = np.nan
    poisoned = replace(ops, x=x)
    spread = Right()(spec, *poisoned.arrays)
    spread[1] = np.where(np.isnan(spread[1]).any((1, 2))[:, None, None], np.nan, spread[1])
    assert found(spec, poisoned, spread)[0].id == "nan_spread"
    assert found(spec, poisoned, Right()(spec, *poisoned.arrays)) == ()


def test_a_clipped_infinity_is_named():
    spec = replace(PLAIN, bias=False)
    ops = operands(spec)
    x = ops.x.copy()
    x[0, 0, 0, 0] = np.inf
    endless = replace(ops, x=x)
    out = Right()(spec, *endless.arrays)
    clipped = np.clip(out, -np.finfo(np.float32).max, np.finfo(np.float32).max)
    assert np.isinf(out).any()
    assert found(spec, endless, clipped)[0].id == "infinity_clipped"


def test_errors_of_a_transform_and_of_a_lost_range_are_told_apart():
    spec = replace(PLAIN, padding=((0, 0), (0, 0)), bias=False, batch=1, groups=1)
    ops = operands(spec)
    assert found(spec, ops, by("fft_declared_direct")(spec, ops))[0].id == "transform_error"
    big = Operands(np.full(spec.x_shape, 1e30, np.float32), np.full(spec.w_shape, 1e3, np.float32))
    findings = diagnose(Evidence(spec, big, np.full(spec.out_shape, np.inf, np.float32), np.full(spec.out_shape, 1e30)))
    assert findings[-1].id == "intermediate_overflow"


def test_a_rounding_direction_is_seen_where_the_bound_sees_nothing():
    ops = operands(replace(PLAIN, bias=False), "zero_mean")
    spec = replace(PLAIN, bias=False)
    exact = reference(spec, ops).hi
    near = exact.astype(np.float32)
    down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    (finding,) = found(spec, ops, down)
    assert finding.id == "output_rounding"
    assert "downward" in finding.text


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (lambda i: i[3] % 16 >= 9, "out_w mod 16 >= 9"),
        (lambda i: i[3] >= 33, "out_w >= 33 (the last 2 of 35)"),
        (lambda i: i[1] == 3, "channel = 3"),
        (lambda i: i[1] % 4 == 2, "channel mod 4 = 2"),
        (lambda i: i[0] == 0, "batch = 0"),
        (lambda i: (i[2] < 1) | (i[2] > 4) | (i[3] > 32), "out_h < 1 or out_h > 4 or out_w > 32"),
        (lambda i: (i[1] == 7) & (i[3] == 34), "channel = 7 (the last) and out_w = 34 (the last)"),
        (lambda i: i[2] * 35 + i[3] >= 100, "the index in the plane >= 100 (the last 110 of 210)"),
    ],
)
def test_a_place_is_told_in_words(mask, text):
    place = describe(mask(np.indices((2, 8, 6, 35))))
    assert place is not None
    assert place.text == text


def test_a_place_without_a_rule_is_not_told():
    random = np.random.default_rng(3)
    for count in (1, 3, 40, 900):
        wrong = np.zeros((2, 8, 6, 35), bool)
        wrong.reshape(-1)[random.choice(wrong.size, count, replace=False)] = True
        assert describe(wrong) is None
    assert describe(np.ones((1, 1, 4), bool)) is None


@pytest.mark.parametrize("spec", [RICH, TRANSPOSED, MAX, AVG, CIRCULAR, REFLECT, REPLICATE, BYTES], ids=str)
def test_the_model_in_pieces_is_the_oracle(spec):
    ops = operands(spec)
    model, ref = Model.of(spec, ops), reference(spec, ops)
    points = np.stack(np.unravel_index(np.arange(ref.hi.size), ref.hi.shape), -1)
    np.testing.assert_allclose(model.at(points).reshape(ref.hi.shape), ref.hi, rtol=1e-14)


def test_the_faults_cover_many_hypotheses():
    assert len(Counter(name for name, *_ in FAULTS.values())) >= 45


def test_bfloat16_results_rounded_twice_are_named():
    spec = replace(PLAIN, in_dtype="bf16", acc_dtype="f32", out_dtype="bf16")
    ops = operands(spec, "zero_mean")
    exact = reference(spec, ops).hi
    bias = ops.b.astype(np.float64).reshape(1, -1, 1, 1)
    twice = narrow(((exact - bias).astype(ml_dtypes.bfloat16).astype(np.float32) + bias).astype(np.float32), spec)
    findings = diagnose(Evidence(spec, ops, twice, 2.0**-8 * 0.51 * np.abs(exact)))
    assert "output_rounding" in [f.id for f in findings]


# --- in a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue()


def verified(catalogue, attribute, case, checks, **options):
    """Records of one of `wrong_backends` on a case."""
    chosen = [c for c in CHECKS if c.name in checks]
    reference = f"wrong_backends:backends.{attribute}"
    with Campaign(
        catalogue.select([case]), [reference], chosen, Options(jobs=1, **options), seed=7, in_process=True
    ) as campaign:
        return [r for batch in campaign.records(campaign.plan(refusals=False)) for r in batch]


@pytest.mark.parametrize(
    ("attribute", "case", "check", "name"),
    [
        ("last_column_not_written", "basic-rank-1d", "contract", "not_computed"),
        ("accumulates_into_out", "basic-rank-1d", "contract", "memory_preset"),
        ("writes_past_out", "basic-rank-1d", "contract", "written_beside"),
        ("input_modified_in_place", "basic-rank-1d", "contract", "input_overwritten"),
        ("flipped_kernel", "basic-rank-2d", "integers", "flipped_kernel"),
        ("weights_packed_by_shape", "basic-rank-1d", "impulses", "stale_weights"),
        ("taps_in_random_order", "basic-rank-1d", "impulses", "nondeterministic"),
        ("wrong_from_the_third_call", "basic-rank-1d", "impulses", "prepared_state"),
        ("reads_past_the_input", "basic-rank-1d", "integers", "guard_read"),
        ("max_reads_past_the_input", "basic-max-pool-2d", "read_guards", "guard_read"),
        ("flag_never_cleared", "basic-rank-1d", "repeat", "memory_preset"),
        ("zero_input_gives_zero", "basic-bias", "zero_input", "zero_input"),
        ("strides_ignored", "basic-rank-1d", "layouts", "memory_layout"),
        ("rounds_downward", "basic-rank-1d", "negation", "output_rounding"),
        ("flipped_kernel", "lecture-conv1d-valid", "literal", "flipped_kernel"),
    ],
)
def test_a_failed_verdict_carries_its_diagnosis(catalogue, attribute, case, check, name):
    records = verified(catalogue, attribute, case, {"contract", "integers", check})
    named = [d["id"] for r in records for d in r.verdict.details.get("diagnosis", ())]
    assert name in named, [(r.job, r.verdict) for r in records if r.verdict.status is Status.FAIL]


def test_a_diagnosis_that_fails_costs_no_verdict(catalogue, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("of no use")

    monkeypatch.setattr("harness.run.diagnosing.findings", broken)
    records = verified(catalogue, "flipped_kernel", "basic-rank-2d", {"contract", "integers"})
    (fail,) = (r.verdict for r in records if r.verdict.status is Status.FAIL)
    assert fail.mismatches > 0
    assert [d["id"] for d in fail.details["diagnosis"]] == ["undiagnosed"]


def test_a_backend_is_diagnosed_on_so_many_batches_of_a_run(catalogue):
    records = verified(catalogue, "flipped_kernel", "lecture-*", {"contract", "integers"}, diagnose=2)
    assert len([r for r in records if r.verdict.status is Status.FAIL]) > 2
    assert len([r for r in records if r.verdict.diagnosis]) == 2


def test_the_terminal_the_reports_and_explain_show_the_diagnosis(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    backend = f"{Path(__file__).parent / 'wrong_backends.py'}:backends.flipped_kernel"
    words = ["verify", "basic-rank-2d", "basic-rank-1d", "--backend", backend, "--check", "integers", "--seed", "3"]
    first = CliRunner().invoke(main, [*words, "--junit", "j.xml", "--markdown", "m.md", "--html", "page"])
    said = "matches the oracle with the kernel reversed along H and W"
    assert first.exit_code == 1
    assert f"diagnosis: {said}" in first.output
    assert "flipped-kernel: diagnoses of 2 cases: flipped_kernel 2" in first.output
    for file in ("j.xml", "m.md", "page/index.html"):
        assert said in Path(file).read_text(), file
    second = CliRunner().invoke(main, ["explain", "last", "basic-rank-2d", "flipped-kernel"])
    assert second.exit_code == 0, second.output
    for text in (
        f"diagnosis: {said}",
        "expected",
        "equality",
        "rows are out_h, columns out_w",
        "##",
        "repeat: convproof verify",
    ):
        assert text in second.output
    for named, reply in (
        (["basic-rank-3d", "flipped-kernel"], "case 'basic-rank-3d' is not bad on flipped-kernel: did you mean 'basic-rank-"),
        (["basic-rank-2d", "flipped"], "nothing is bad of backend 'flipped': did you mean 'flipped-kernel'?"),
        (["basic-rank-2d", "flipped-kernel", "integer"], "does not fail integer on flipped-kernel: did you mean 'integers'?"),
    ):
        third = CliRunner().invoke(main, ["explain", "last", *named])
        assert third.exit_code == 2
        assert reply in third.output
