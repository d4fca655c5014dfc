"""Sizes and counts of one axis, against enumeration and against published layers."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from harness.spec import geometry
from harness.spec.geometry import Axis

BIG = 2**31


@st.composite
def axes(draw, low=-3):
    return Axis(
        draw(st.integers(1, 12)),
        draw(st.integers(1, 7)),
        draw(st.integers(1, 7)),
        draw(st.integers(low, 15)),
        draw(st.integers(low, 15)),
        draw(st.integers(1, 20)),
    )


@examples(400)
@given(axes(), st.integers(1, 20), st.integers(-4, 3), st.integers(0, 15))
def test_conv_counts_are_those_of_enumeration(a, out, low, high):
    def listed(low, high):
        return tuple(sum(low <= o * a.s - a.lo + k * a.d < high for k in range(a.m)) for o in range(out))

    assert geometry.conv_tap_counts(a, out) == listed(0, a.n)
    assert geometry.conv_tap_counts(a, out, low=low, high=high) == listed(low, high)
    assert geometry.most_conv_taps(a, out) == max(listed(0, a.n))
    assert geometry.conv_pairs(a, out) == sum(listed(0, a.n))


@examples(400)
@given(axes(low=0), st.integers(1, 40))
def test_transpose_counts_are_those_of_enumeration(a, out):
    listed = [0] * out
    for k in range(a.m):
        for i in range(a.n):
            if 0 <= (o := i * a.s - a.lo + k * a.d) < out:
                listed[o] += 1
    assert geometry.transpose_tap_counts(a, out) == tuple(listed)
    assert geometry.most_transpose_taps(a, out) == max(listed)
    assert geometry.transpose_pairs(a, out) == sum(listed)


@examples(600)
@given(axes(low=0), st.integers(1, 40))
def test_the_first_empty_window_is_found_without_enumeration(a, out):
    counts = geometry.conv_tap_counts(a, out)
    assert geometry.first_empty_window(a, out) == (counts.index(0) if 0 in counts else None)


def test_a_window_may_straddle_the_data():
    """Taps 9 apart around 2 elements: windows that begin 9 to 3 before them see neither."""
    a = Axis(2, 2, 1, lo=9, hi=9, d=9)
    assert geometry.conv_tap_counts(a, 4) == (1, 1, 0, 0)
    assert geometry.first_empty_window(a, 4) == 2


@pytest.mark.parametrize(
    ("a", "out"),
    [
        (Axis(BIG, BIG // 2, 1, BIG // 2 - 1, BIG // 2 - 1), BIG),
        (Axis(7, BIG // 2, 12345, 0, 0, 2**30 - 35), BIG),
        (Axis(7, 3, 12345, 2**31, 0, 2**30 - 35), BIG),
        (Axis(5, 3, 2, BIG - 1, BIG, 2), BIG),
        (Axis(BIG, BIG, 3, 0, 0, 2), BIG),
        (Axis(BIG, BIG, BIG, 5, 0, BIG - 1), BIG),
    ],
)
def test_huge_axes_cost_nothing(a, out):
    start = time.perf_counter()
    geometry.first_empty_window(a, out)
    geometry.most_conv_taps(a, out)
    geometry.most_transpose_taps(a, out)
    geometry.conv_pairs(a, out)
    geometry.transpose_pairs(a, out)
    assert time.perf_counter() - start < 1


@examples(300)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4))
def test_same_padding_makes_ceil_n_over_s_outputs_and_no_less_padding_does(n, m, s, d):
    upper, lower = (geometry.same_padding(n, m, s, d, upper=u) for u in (True, False))
    assert upper == lower[::-1]
    assert 0 <= upper[1] - upper[0] <= 1
    for lo, hi in (upper, lower):
        assert geometry.conv_size(Axis(n, m, s, lo, hi, d)) == -(-n // s)
    if sum(upper):
        assert geometry.conv_size(Axis(n, m, s, 0, sum(upper) - 1, d)) < -(-n // s)


@pytest.mark.parametrize(
    ("n", "m", "s", "d", "upper", "lower"),
    [
        (5, 4, 1, 1, (1, 2), (2, 1)),
        (224, 7, 2, 1, (2, 3), (3, 2)),  # ResNet's stem in TensorFlow's SAME
        (5, 3, 2, 1, (1, 1), (1, 1)),
        (4, 1, 3, 1, (0, 0), (0, 0)),
        (6, 2, 1, 3, (1, 2), (2, 1)),
    ],
)
def test_same_padding_by_hand(n, m, s, d, upper, lower):
    assert geometry.same_padding(n, m, s, d, upper=True) == upper
    assert geometry.same_padding(n, m, s, d, upper=False) == lower


@pytest.mark.parametrize(
    ("a", "size"),
    [
        # Dumoulin & Visin, figures 2.1 to 2.8 and 5.1
        (Axis(4, 3), 2),
        (Axis(5, 4, 1, 2, 2), 6),
        (Axis(5, 3, 1, 1, 1), 5),
        (Axis(5, 3, 1, 2, 2), 7),
        (Axis(5, 3, 2), 2),
        (Axis(5, 3, 2, 1, 1), 3),
        (Axis(6, 3, 2, 1, 1), 3),
        (Axis(7, 3, 1, 0, 0, 2), 3),
        # ResNet-50's stem, a down-sampling block, VGG-16, AlexNet's first
        (Axis(224, 7, 2, 3, 3), 112),
        (Axis(56, 1, 2), 28),
        (Axis(224, 3, 1, 1, 1), 224),
        (Axis(227, 11, 4), 55),
        # one short of fitting: floor and truncation would differ
        (Axis(2, 3, 2), 0),
        (Axis(4, 3, 1, -1, -1), 0),
        (Axis(4, 2, 1, -1, -1), 1),
    ],
)
def test_published_conv_sizes(a, size):
    assert geometry.conv_size(a) == size


@pytest.mark.parametrize(
    ("a", "size"),
    [
        # Dumoulin & Visin, figures 4.1 to 4.7: the transposes of the above
        (Axis(2, 3), 4),
        (Axis(6, 4, 1, 2, 2), 5),
        (Axis(5, 3, 1, 1, 1), 5),
        (Axis(7, 3, 1, 2, 2), 5),
        (Axis(2, 3, 2), 5),
        (Axis(3, 3, 2, 1, 1), 5),
        (Axis(3, 3, 2, 1, 1, 1, 1), 6),
        (Axis(28, 2, 2), 56),  # U-Net's up-convolution
    ],
)
def test_published_transpose_sizes(a, size):
    assert geometry.transpose_size(a) == size


@pytest.mark.parametrize(
    ("a", "floor", "ceil"),
    [
        (Axis(112, 3, 2, 1, 1), 56, 57),  # ResNet's max pool: ceil_mode adds one, as torch says
        (Axis(112, 3, 2), 55, 56),  # GoogLeNet's
        (Axis(5, 2, 3, 1, 1), 2, 2),  # the third window would start in the high padding: dropped
        (Axis(4, 2, 2), 2, 2),
        (Axis(7, 2, 2), 3, 4),
        (Axis(2, 3, 2), 0, 1),  # torch gives one partial window here
        (Axis(1, 4, 2), 0, 0),
    ],
)
def test_pool_sizes_are_pytorchs(a, floor, ceil):
    assert geometry.pool_size(a, ceil_mode=False) == floor
    assert geometry.pool_size(a, ceil_mode=True) == ceil
