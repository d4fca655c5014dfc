"""`ConvSpec`: what it refuses and with which numbers, what it derives, and that its names never change."""

import json
import subprocess
import sys
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, specs

from harness.spec import DTYPES, ConvSpec, SpecError, default_types, dtype
from harness.spec.convspec import DTYPE_TRIPLES, OPS

PLAIN = {"op": "conv", "in_size": (7, 9), "kernel_size": (3, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "convolve"}, "unknown op 'convolve'"),
        ({"padding_mode": "same"}, "unknown padding_mode 'same'"),
        ({"in_dtype": "float32"}, "unknown in_dtype 'float32'"),
        ({"acc_dtype": "f16"}, "f32/f16/f32"),
        ({"in_size": (), "kernel_size": ()}, "0 axes"),
        ({"in_size": (2,) * 4, "kernel_size": (1,) * 4}, "4 axes"),
        ({"stride": (1,)}, "stride has 1 entries, in_size has 2 axes"),
        ({"batch": -1}, "batch is -1"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"kernel_size": (3, 0)}, "[3, 0]"),
        ({"stride": (0, 1)}, "[0, 1]"),
        ({"dilation": (1, -1)}, "[1, -1]"),
        ({"in_channels": 4, "out_channels": 6, "groups": 4}, "groups 4 does not divide out_channels 6"),
        ({"in_channels": 3, "out_channels": 2, "groups": 2}, "groups 2 does not divide in_channels 3"),
        # rule 2: the fit is tested before the division
        ({"kernel_size": (8, 3)}, "the kernel spans 8 (size 8, dilation 1), the padded input 7 + 0 + 0 = 7"),
        ({"dilation": (4, 1), "stride": (4, 1)}, "spans 9 (size 3, dilation 4), the padded input 7 + 0 + 0 = 7"),
        # rule 5
        (
            {"padding_mode": "reflect", "padding": ((7, 0), (0, 0))},
            "reflect padding (7, 0) on axis 0 of 7 elements: it reaches at most 6",
        ),
        (
            {"padding_mode": "circular", "padding": ((0, 0), (3, 10))},
            "circular padding (3, 10) on axis 1 of 9 elements: it reaches at most 9",
        ),
        # rule 6
        ({"padding": ((-3, -4), (0, 0))}, "padding (-3, -4) on axis 0 crops all 7 elements"),
        ({"padding_mode": "replicate", "padding": ((-1, 0), (0, 0))}, "padding (-1, 0) on axis 0"),
        ({"op": "max_pool", "padding": ((-1, 0), (0, 0))}, "only conv with zeros"),
        ({"op": "conv_transpose", "padding": ((-1, 0), (0, 0))}, "only conv with zeros"),
        # rule 7
        ({"op": "conv_transpose", "padding_mode": "circular"}, "padding_mode 'circular' has no meaning"),
        (
            {"op": "conv_transpose", "output_padding": (0, 1)},
            "output_padding 1 on axis 1: it is at least 0 and less than the stride, 1",
        ),
        ({"op": "conv_transpose", "output_padding": (-1, 0)}, "output_padding -1 on axis 0"),
        ({"op": "conv_transpose", "padding": ((5, 4), (0, 0))}, "(7-1)*1 - 5 - 4 + 3 + 0 = 0"),
        ({"output_padding": (1, 0), "stride": (2, 2)}, "output_padding belongs to conv_transpose"),
        # rule 4: windows without an element
        (
            {"op": "max_pool", "padding": ((3, 0), (0, 0))},
            "window 0 of axis 0 starts at -3 with 3 taps 1 apart and holds no element of [0, 7)",
        ),
        ({"op": "avg_pool", "padding": ((0, 0), (0, 3))}, "window 9 of axis 1 starts at 9"),
        (
            {"op": "max_pool", "in_size": (2, 9), "kernel_size": (2, 3), "dilation": (9, 1), "padding": ((9, 9), (0, 0))},
            "window 2 of axis 0 starts at -7",
        ),
        ({"op": "max_pool", "padding_mode": "reflect"}, "max_pool excludes its padding"),
        ({"op": "max_pool", "bias": True}, "max_pool has no bias"),
        ({"op": "avg_pool", "flip": True}, "no weights to flip"),
        ({"op": "avg_pool", "groups": 2, "in_channels": 2}, "a pool has no groups: got 2"),
        ({"op": "avg_pool", "in_channels": 2, "out_channels": 4}, "in_channels 2, out_channels 4"),
        ({"op": "avg_pool", "in_dtype": "i8"}, "avg_pool of i8"),
        ({"op": "max_pool", "in_dtype": "f16", "acc_dtype": "f32"}, "max_pool copies elements"),
        ({"op": "max_pool", "in_dtype": "i32"}, "max_pool copies elements"),
        ({"op": "max_pool", "count_include_pad": True}, "count_include_pad belongs to avg_pool"),
        ({"ceil_mode": True}, "ceil_mode belongs to pools"),
    ],
)
def test_a_refusal_says_the_numbers(change, message):
    with pytest.raises(SpecError) as e:
        ConvSpec(**(PLAIN | change))
    assert message in str(e.value)


@pytest.mark.parametrize(
    "change",
    [
        {"in_size": 7},
        {"in_size": None},
        {"in_size": "79"},
        {"in_size": ((7, 9), (7, 9))},
        {"in_size": (7, np.int64(9))},
        {"in_size": (7.0, 9.0)},
        {"in_size": (True, 9)},
        {"in_size": (float("nan"), 9)},
        {"in_size": (2**31 + 1, 9)},
        {"in_size": (10**400, 9)},
        {"kernel_size": 3},
        {"kernel_size": ([3], 3)},
        {"stride": object()},
        {"stride": (None, 1)},
        {"stride": np.array([1, 1])},
        {"padding": 1},
        {"padding": (1, 1)},
        {"padding": ((1, 1, 7), (1, 1, 7))},
        {"padding": ((), ())},
        {"padding": ("ab", "cd")},
        {"padding": (((1,), 1), (1, 1))},
        {"padding": ((1, -(10**30)), (1, 1))},
        {"batch": 1.0},
        {"batch": True},
        {"batch": np.int32(1)},
        {"batch": float("inf")},
        {"out_channels": False},
        {"out_channels": 0.0},
        {"groups": -1},
        {"groups": 2**40},
        {"bias": 1},
        {"flip": "no"},
        {"flip": np.True_},
        {"op": "max_pool", "ceil_mode": None},
        {"op": ["conv"]},
        {"op": None},
        {"padding_mode": 0},
        {"in_dtype": ["f32"]},
        {"in_dtype": np.float32},
        {"acc_dtype": None},
        {"out_dtype": 0},
        {"out_dtype": np.zeros(2)},
    ],
)
def test_a_hostile_value_is_a_spec_error_and_nothing_else(change):
    with pytest.raises(SpecError):
        ConvSpec(**(PLAIN | change))


hostile = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**33), 2**33), st.floats(), st.text(max_size=2),
    st.lists(st.one_of(st.integers(-2, 9), st.floats(), st.none(), st.tuples(st.integers(), st.integers())), max_size=4),
)  # fmt: skip


@examples(400)
@given(st.dictionaries(st.sampled_from(sorted(PLAIN | ConvSpec(**PLAIN).to_dict())), hostile, min_size=1, max_size=4))
def test_any_values_make_a_specification_or_a_spec_error(change):
    try:
        spec = ConvSpec.from_dict(PLAIN | change)
    except SpecError:
        return
    assert min(spec.out_size) >= 1
    assert len(spec.digest) == 16


@pytest.mark.parametrize("op", OPS)
def test_validation_of_huge_sizes_takes_no_time(op):
    big, start = 2**31, time.perf_counter()
    s = ConvSpec(op, (big,) * 3, (3, big // 2, 2), stride=(1, 1, big), dilation=(5, 1, 1))
    assert s.macs > 2**90
    assert s.accumulation_length >= 3 * 2**29
    assert s.flops > 0
    assert s.bytes > 0
    if s.is_pool:
        with pytest.raises(SpecError, match="holds no element"):
            ConvSpec(op, (7,), (4,), padding=((big, big),), dilation=(2**30,))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        ({"in_size": (224, 224), "kernel_size": (7, 7), "stride": (2, 2), "padding": ((3, 3),) * 2}, (112, 112)),
        ({"in_size": (5,), "kernel_size": (3,), "padding": ((0, 1),)}, (4,)),
        ({"in_size": (5, 5, 5), "kernel_size": (3, 1, 5), "padding": ((-1, 0), (0, 0), (4, 4))}, (2, 5, 9)),
    ],
)
def test_output_sizes(kwargs, size):
    assert ConvSpec("conv", **kwargs).out_size == size


def test_defaults_are_filled():
    s = ConvSpec("conv", (5,), (3,), in_dtype="f16")
    assert (s.stride, s.dilation, s.padding, s.output_padding, s.out_channels) == ((1,), (1,), ((0, 0),), (0,), 1)
    assert s.dtypes == ("f16", "f32", "f16")
    assert ConvSpec("max_pool", (5,), (3,), in_channels=4).out_channels == 4
    assert default_types("conv", "i8") == ("i8", "i32", "i32")


def test_only_the_batch_may_be_zero():
    s = ConvSpec("conv", (5,), (3,), batch=0)
    assert s.out_shape == (0, 1, 3)
    assert s.macs == 0


@examples(150)
@given(specs())
def test_tap_counts_length_and_macs_are_those_of_enumeration(spec):
    """Pairs are listed from the definition: what each output reads, tap by tap."""
    per_axis = []
    for a, out in zip(spec.axes, spec.out_size, strict=True):
        taps = [0] * out
        for o, k in product(range(out), range(a.m)):
            if spec.op == "conv_transpose":
                i, rest = divmod(o + a.lo - k * a.d, a.s)
                taps[o] += rest == 0 and 0 <= i < a.n
            else:
                taps[o] += spec.padding_mode != "zeros" or 0 <= o * a.s - a.lo + k * a.d < a.n
        per_axis.append(tuple(taps))
    assert spec.tap_counts == tuple(per_axis)
    channels = 1 if spec.is_pool else spec.in_channels // spec.groups
    lengths = [channels * int(np.prod(c)) for c in product(*per_axis)]
    assert spec.accumulation_length == max(lengths)
    assert spec.macs == spec.batch * spec.out_channels * sum(lengths)


@examples(100)
@given(specs())
def test_a_dictionary_its_json_and_a_text_come_back(spec):
    assert ConvSpec.from_dict(spec.to_dict()) == spec
    again = ConvSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.digest == spec.digest
    assert spec.op in str(spec)


def test_from_dict_names_what_is_unknown_or_missing():
    with pytest.raises(SpecError, match="unknown field 'strides'"):
        ConvSpec.from_dict(PLAIN | {"strides": 1})
    with pytest.raises(SpecError, match="in_size is missing"):
        ConvSpec.from_dict({"op": "conv"})


def test_digests_never_change():
    """They name rows of the store and files of caches: a change here orphans every result there is."""
    pinned = {
        "8977a0eedbc04885": ConvSpec("conv", (7, 9), (3, 3)),
        "449e9b0355d6da67": ConvSpec(
            "conv_transpose", (5,), (3,), in_channels=4, out_channels=2, groups=2, stride=(2,), output_padding=(1,), bias=True
        ),
        "b09212d4faf4c2b6": ConvSpec("avg_pool", (6, 7, 8), (2, 2, 2), in_dtype="bf16", ceil_mode=True, count_include_pad=True),
        "4c79d14f586cc354": ConvSpec(
            "conv", (5, 6), (2, 3), padding=((1, 2), (0, 1)), padding_mode="reflect", dilation=(2, 1), flip=True, in_dtype="i8"
        ),
    }
    assert list(pinned) == [s.digest for s in pinned.values()]


@examples(100)
@given(specs())
def test_lifting_keeps_the_problem(spec):
    up = spec.lifted()
    k = 3 - spec.rank
    assert up.rank == 3
    assert up.out_shape == (*spec.out_shape[:2], *(1,) * k, *spec.out_size)
    assert (up.macs, up.flops, up.bytes, up.accumulation_length) == (
        spec.macs, spec.flops, spec.bytes, spec.accumulation_length,
    )  # fmt: skip
    assert up.dtypes == spec.dtypes
    assert up.lifted() == up


def test_the_element_types_are_ieee_754s():
    import ml_dtypes

    kinds = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16}
    for name, kind in kinds.items():
        t, info = DTYPES[name], ml_dtypes.finfo(kind)
        assert (t.max, t.tiny, t.eta) == (float(info.max), float(info.tiny), float(info.smallest_subnormal))
        assert t.unit_roundoff == float(info.eps) / 2
        limit = np.array([t.exact_limit, t.exact_limit + 1], np.float64).astype(kind).astype(np.float64)
        assert limit.tolist() == [t.exact_limit, t.exact_limit]
    assert (DTYPES["i8"].exact_limit, DTYPES["i32"].exact_limit) == (127, 2**31 - 1)
    assert {t[0] for t in DTYPE_TRIPLES} == {"f16", "bf16", "f32", "f64", "i8"}
    with pytest.raises(KeyError, match="unknown dtype 'f8'"):
        dtype("f8")


def test_the_specification_imports_no_numpy():
    code = "import sys, harness.spec, harness.backend; harness.spec.ConvSpec('conv', (5,), (3,)).macs"
    subprocess.run([sys.executable, "-c", code + "; assert 'numpy' not in sys.modules"], check=True)
