"""`im2col` computes what the definition says, and its patch matrix is the lecture's, entry by entry."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from backend_definition import SHAPES, SPECS, define, integers, operands, reals, rounded, run

from backends import im2col
from backends.im2col import backend, padded, patches, windows
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

TAKEN = [n for n, s in SPECS.items() if s.op == "max_pool" or s.acc_dtype != "f16"]


@pytest.fixture(params=["whole", "row by row"])
def chunks(request, monkeypatch):
    """The patches at once, or one output row at a time."""
    if request.param == "row by row":
        monkeypatch.setattr(im2col, "CHUNK", 1)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("name", TAKEN)
def test_integers_come_out_exactly(name):
    spec = SPECS[name]
    assert backend.info.limits.why_not(spec) is None
    x, w, b = integers(spec)
    np.testing.assert_array_equal(run(backend, "cpu", spec, x, w, b), rounded(spec, define(spec, x, w, b)))


@pytest.mark.parametrize("name", TAKEN)
def test_real_data_stay_within_the_direct_bound(name):
    spec = SPECS[name]
    if not spec.acc_type.is_float:
        pytest.skip("integers have no rounding")
    x, w, b = reals(spec)
    got = run(backend, "cpu", spec, x, w, b).astype(np.float64)
    want = define(spec, x, w, b)
    scale = define(spec, *(None if a is None else np.abs(a) for a in (x, w, b)))
    roundings = 8 * max(1.0, spec.accumulation_length**0.5) * spec.acc_type.unit_roundoff
    assert np.all(np.abs(got - want) <= roundings * scale + spec.out_type.unit_roundoff * np.abs(want))


def test_sums_in_half_are_refused_with_the_reason():
    assert "sums in f32" in backend.info.limits.why_not(SPECS["2d-groups-f16/f16/f16"])
    assert backend.info.limits.why_not(SPECS["max-2d-asymmetric-f16"]) is None


def test_windows_that_lie_wholly_in_the_padding_give_the_bias():
    """A stride of 10 over 5 elements behind 5 zeros: the one window ends 3 places before the data."""
    spec = ConvSpec("conv", (5, 3), (2, 2), padding=((5, 0), (1, 9)), stride=(10, 5), bias=True)
    x, w, b = integers(spec)
    np.testing.assert_array_equal(run(backend, "cpu", spec, x, w, b), np.full(spec.out_shape, b[0]))


@pytest.mark.parametrize("bias", [False, True])
def test_an_i32_sum_wraps(bias):
    taps = 2**31 // 128**2 + 1
    spec = ConvSpec("conv", (taps,), (taps,), in_dtype="i8", bias=bias)
    x, w, b = operands(spec, lambda shape: np.full(shape, -128))
    assert run(backend, "cpu", spec, x, w, b)[0, 0, 0] == taps * 128**2 - 2**32 - 128 * bias


def test_a_float64_accumulator_rounds_once():
    """1 + 2**-30 - 1 keeps 2**-30 in float64, and loses it in float32."""
    spec = ConvSpec("conv", (3,), (3,), in_dtype="f32", acc_dtype="f64", out_dtype="f32")
    x, w = np.array([[[1, 2.0**-30, -1]]], np.float32), np.ones((1, 1, 3), np.float32)
    assert run(backend, "cpu", spec, x, w)[0, 0, 0] == 2.0**-30


@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "bf16"])
def test_max_pool_propagates_nan_and_never_reads_its_padding(kind):
    spec = ConvSpec("max_pool", (5,), (3,), padding=((1, 1),), in_dtype=kind)
    x = np.array([[[-3, -2, np.nan, -5, -np.inf]]], np.float32).astype(numpy_dtype(kind))
    got = run(backend, "cpu", spec, x)[0, 0].astype(np.float32)
    np.testing.assert_array_equal(got, [-2, np.nan, np.nan, np.nan, -5])
    assert backend.info.nan_max_pool == "propagate"
    x = np.full((1, 1, 5), -np.inf, numpy_dtype(kind))
    np.testing.assert_array_equal(run(backend, "cpu", spec, x), x)


def test_max_pool_of_the_least_i8_is_the_least_i8():
    spec = ConvSpec("max_pool", (5,), (3,), padding=((1, 1),), in_dtype="i8")
    x = np.full((1, 1, 5), -128, np.int8)
    np.testing.assert_array_equal(run(backend, "cpu", spec, x), x)


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing():
    spec = ConvSpec("conv", (2,), (2,), in_dtype="f16", bias=True)
    x, w, b = operands(spec, lambda shape: np.full(shape, 60000.0))
    assert run(backend, "cpu", spec, x, w, b)[0, 0, 0] == np.inf
    spec = ConvSpec("conv", (2,), (2,))
    x, w, _ = operands(spec, lambda shape: np.array([3e38, -3e38]).reshape(shape))
    assert run(backend, "cpu", spec, x, w)[0, 0, 0] == np.inf


def test_a_nan_reaches_its_receptive_field_and_nothing_else():
    spec = ConvSpec("conv", (6, 7), (3, 3), in_channels=4, out_channels=4, groups=2, padding=((1, 1), (1, 1)))
    x, w = reals(spec)[:2]
    x[0, 2, 3, 0] = np.nan
    want = np.zeros(spec.out_shape, bool)
    want[0, 2:, 2:5, 0:2] = True
    np.testing.assert_array_equal(np.isnan(run(backend, "cpu", spec, x, w)), want)


def test_one_prepared_serves_new_weights_and_reports_its_phases():
    spec = SPECS["2d-groups"]
    with backend.prepare(spec, "cpu") as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(out, define(spec, x, w, b))
            assert set(prepared.phases) == {"pack", "kernel", "copy"}


def laid_out(a, layout):
    """A copy of `a` in another memory layout."""
    if layout == "F":
        return np.asfortranarray(a)
    if layout == "unaligned":
        return (
            np.concatenate([np.zeros(1, np.uint8), np.ascontiguousarray(a).view(np.uint8).reshape(-1)])[1:]
            .view(a.dtype)
            .reshape(a.shape)
        )
    step = 2 if layout == "strided" else -1
    whole = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)[..., : None if step == 2 else a.shape[-1]]
    whole[..., ::step] = a
    return whole[..., ::step]


@pytest.mark.parametrize("layout", ["F", "strided", "negative", "unaligned"])
@pytest.mark.parametrize(
    "name", ["2d-pointwise", "2d-groups", "2d-reflect", "3d-all", "t2d-groups", "avg-2d", "2d-groups-i8/i32/i32"]
)
def test_operands_may_lie_in_any_layout(name, layout):
    assert layout in backend.info.layouts
    spec = SPECS[name]
    x, w, b = integers(spec)
    others = [None if a is None else laid_out(a, layout) for a in (x, w, b)]
    np.testing.assert_array_equal(run(backend, "cpu", spec, *others), rounded(spec, define(spec, x, w, b)))


# --- the lecture's matrix -----------------------------------------------------------------------
@pytest.mark.parametrize(("n", "m"), [(7, 3), (7, 4), (9, 5), (5, 5), (8, 1), (6, 2), (12, 7)])
@pytest.mark.parametrize("square", [True, False])
def test_the_data_matrix_is_the_lectures_entry_by_entry(n, m, square):
    """Row r, column i holds x_{i + m - r - floor(m/2)}, the taps from the last, as [h_m ... h_1] is printed.

    The slide pads floor(m/2) on both sides, which for an even m makes n + 1 columns; its last row then
    ends x_{n-m/2}, x_{n-m/2+1} (the slide prints the two in the other order). `square` keeps n columns.
    """
    front = m // 2
    spec = ConvSpec("conv", (n,), (m,), padding=((front, m - 1 - front if square else front),))
    x, h = np.arange(11, 11 + n), np.arange(1, m + 1)
    t = patches(spec, x.reshape(1, n))[0, ::-1]
    columns = n if square else n + 1 - m % 2
    want = np.zeros((m, columns), int)
    for r in range(1, m + 1):
        for i in range(1, columns + 1):
            at = i + m - r - front
            if 1 <= at <= n:
                want[r - 1, i - 1] = x[at - 1]
    np.testing.assert_array_equal(t, want)
    assert t[0, 0] == x[m - front - 1]
    np.testing.assert_array_equal(t[1:, 1:], t[:-1, :-1], "diagonal-constant")
    np.testing.assert_array_equal(h[::-1] @ t, define(spec, x.reshape(1, 1, n).astype(np.int8), h.reshape(1, 1, m))[0, 0])


def test_the_data_matrix_is_dense_where_the_filters_is_sparse():
    x = np.arange(1, 1001).reshape(1, 1000)
    t = patches(ConvSpec("conv", (1000,), (3,), padding=((1, 1),)), x)
    assert np.count_nonzero(t) == t.size - 2


@pytest.mark.parametrize("name", [n for n in SHAPES if SHAPES[n].op == "conv" and SHAPES[n].batch])
def test_weights_times_patches_is_the_convolution(name):
    spec = SHAPES[name]
    x, w, _ = integers(spec)
    taps = np.flip(w, tuple(range(2, w.ndim))) if spec.flip else w
    for image, want in zip(x, define(spec, x, w), strict=True):
        y = taps.reshape(spec.groups, spec.out_channels // spec.groups, -1) @ patches(spec, image)
        np.testing.assert_array_equal(y.reshape(want.shape), want)


def test_a_transposed_convolution_has_no_patches_of_its_input():
    with pytest.raises(ValueError, match="it makes those of its output"):
        patches(SHAPES["t1d-stride"], np.zeros((1, 5)))


@pytest.mark.parametrize("name", [n for n in SHAPES if SHAPES[n].op == "conv" and SHAPES[n].batch])
def test_its_padding_is_numpys(name):
    spec = SHAPES[name]
    x = np.arange(np.prod(spec.x_shape[1:]), dtype=np.float32).reshape(spec.x_shape[1:])
    modes = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}
    crop = tuple(slice(max(0, -a.lo), a.n - max(0, -a.hi)) for a in spec.axes)
    grow = [(0, 0), *((max(0, a.lo), max(0, a.hi)) for a in spec.axes)]
    whole = np.pad(x[(slice(None), *crop)], grow, modes[spec.padding_mode])
    got = padded(spec, x, x.dtype)
    np.testing.assert_array_equal(got, whole[tuple(slice(z) for z in got.shape)])


def test_a_1x1_convolution_reuses_x():
    spec = ConvSpec("conv", (5, 6), (1, 1), in_channels=4, out_channels=2, groups=2)
    x = np.zeros(spec.x_shape[1:], np.float32)
    assert np.shares_memory(patches(spec, x), x)


def test_windows_copy_nothing():
    spec = ConvSpec("conv", (5, 6), (3, 3), stride=(2, 1), dilation=(1, 2))
    x = np.zeros((1, 5, 6), np.float32)
    assert np.shares_memory(windows(spec, padded(spec, x, x.dtype)), x)


# --- honesty ------------------------------------------------------------------------------------
LARGER = {
    "conv": ConvSpec("conv", (40, 41), (3, 3), 2, 16, 17, padding=((1, 1), (1, 1)), bias=True),
    "pointwise": ConvSpec("conv", (60, 61), (1, 1), in_channels=32, out_channels=16),
    "reflect-half": ConvSpec("conv", (60, 61), (3, 3), 3, 8, 8, padding=((2, 2), (1, 1)), padding_mode="reflect", groups=4,
                             in_dtype="f16", flip=True),
    "depthwise": ConvSpec("conv", (40, 41), (3, 3), in_channels=32, out_channels=32, groups=32, in_dtype="i8"),
    "crop": ConvSpec("conv", (200, 41), (3, 3), in_channels=8, padding=((-150, 0), (0, 0)), in_dtype="f16"),
    "transpose": ConvSpec("conv_transpose", (20, 21), (3, 3), in_channels=8, out_channels=16, stride=(2, 2), bias=True),
    "pool": ConvSpec("avg_pool", (60, 61), (3, 3), in_channels=16, stride=(2, 2), in_dtype="bf16", batch=4),
    "max": ConvSpec("max_pool", (60, 61), (3, 3), in_channels=16, padding=((1, 1), (1, 1))),
}  # fmt: skip


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("name", LARGER)
def test_it_allocates_what_it_says_and_says_little_more(name):
    spec = LARGER[name]
    x, w, b = integers(spec)
    run(backend, "cpu", spec, x, w, b)  # imports and caches are not workspace
    out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
    tracemalloc.start()
    with backend.prepare(spec, "cpu") as prepared:
        prepared.run(x, w, b, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= backend.workspace_bytes(spec) + 50_000


def test_the_patches_stay_within_a_chunk():
    """224 x 224 with 64 channels and 3 x 3 taps would be 116 MB of patches."""
    spec = ConvSpec("conv", (224, 224), (3, 3), in_channels=64, out_channels=64, padding=((1, 1), (1, 1)))
    x, w = np.zeros(spec.x_shape, np.float32), np.zeros(spec.w_shape, np.float32)
    out = np.empty(spec.out_shape, np.float32)
    tracemalloc.start()
    with backend.prepare(spec, "cpu") as prepared:
        prepared.run(x, w, None, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < im2col.CHUNK + 2 * x.nbytes
    assert peak < backend.workspace_bytes(spec)


def test_it_keeps_the_contract():
    assert checked(backend, "im2col=backends.im2col:backend") is backend
    with pytest.raises(Unsupported, match="no device 'gpu': its device is 'cpu'"):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "gpu")


def test_it_imports_no_scipy():
    code = "import sys; from backends.im2col import backend; backend.probe(); print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
