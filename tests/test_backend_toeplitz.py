"""`toeplitz` computes what the definition says, and its matrices are the lecture's, entry by entry."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from backend_definition import SHAPES, SPECS, define, integers, operands, reals, rounded, run

from backends.toeplitz import MOST_ENTRIES, axis_table, backend, entries, matrix, structure
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec
from harness.spec.geometry import Axis

pytest.importorskip("scipy.sparse", reason="the backend needs scipy")

TAKEN = [n for n, s in SPECS.items() if s.op != "max_pool" and s.acc_dtype != "f16"]


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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("max-1d", "a maximum is not linear"),
        ("2d-groups-f16/f16/f16", "scipy.sparse has no f16"),
        (None, "240,100,000 entries"),
    ],
)
def test_what_it_refuses_it_refuses_with_a_reason(name, reason):
    spec = SPECS[name] if name else ConvSpec("conv", (49, 50), (1, 1), in_channels=350, out_channels=280)
    assert reason in backend.info.limits.why_not(spec)
    with pytest.raises(ValueError, match=reason):
        matrix(spec)


def test_windows_that_lie_wholly_in_the_padding_give_the_bias():
    """A stride of 10 over 5 elements behind 5 zeros: the one window ends 3 places before the data."""
    spec = ConvSpec("conv", (5, 3), (2, 2), padding=((5, 0), (1, 9)), stride=(10, 5), bias=True)
    x, w, b = integers(spec)
    np.testing.assert_array_equal(run(backend, "cpu", spec, x, w, b), np.full(spec.out_shape, b[0]))


def test_an_i32_sum_wraps():
    taps = 2**31 // 128**2 + 1
    spec = ConvSpec("conv", (taps,), (taps,), in_dtype="i8")
    x, w = operands(spec, lambda shape: np.full(shape, -128))[:2]
    assert run(backend, "cpu", spec, x, w)[0, 0, 0] == taps * 128**2 - 2**32


def test_a_float64_accumulator_rounds_once():
    """1 + 2**-30 - 1 keeps 2**-30 in float64, and loses it in float32."""
    spec = ConvSpec("conv", (3,), (3,), in_dtype="f32", acc_dtype="f64", out_dtype="f32")
    x, w = np.array([[[1, 2.0**-30, -1]]], np.float32), np.ones((1, 1, 3), np.float32)
    assert run(backend, "cpu", spec, x, w)[0, 0, 0] == 2.0**-30


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing():
    spec = ConvSpec("conv", (2,), (2,), in_dtype="f16", bias=True)
    x, w, b = operands(spec, lambda shape: np.full(shape, 60000.0))
    assert run(backend, "cpu", spec, x, w, b)[0, 0, 0] == np.inf


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


# --- the lecture's matrices ---------------------------------------------------------------------
@pytest.mark.parametrize(("n", "m"), [(7, 3), (7, 4), (9, 5), (5, 5), (8, 1), (6, 2), (12, 7), (4, 6)])
def test_the_filter_matrix_is_the_lectures_entry_by_entry(n, m):
    """Row i, column j holds h_{j - i + floor(m/2) + 1}: it begins with h_{floor(m/2)+1} and ends with it."""
    front = m // 2
    spec = ConvSpec("conv", (n,), (m,), padding=((front, m - 1 - front),))
    h = np.arange(1, m + 1, dtype=np.float32)
    a = matrix(spec, h.reshape(1, 1, m))
    t = a.toarray()
    want = np.zeros((n, n))
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            k = j - i + front + 1
            if 1 <= k <= m:
                want[i - 1, j - 1] = h[k - 1]
    np.testing.assert_array_equal(t, want)
    assert t[0, 0] == t[-1, -1] == h[front]
    np.testing.assert_array_equal(t[1:, 1:], t[:-1, :-1], "diagonal-constant")
    assert a.nnz == sum(spec.tap_counts[0]) == np.count_nonzero(want)


def test_the_matrix_is_sparse_where_n_exceeds_m():
    a = matrix(ConvSpec("conv", (1000,), (3,), padding=((1, 1),)), np.ones((1, 1, 3), np.float32))
    assert a.nnz == 3 * 1000 - 2
    assert a.dtype == np.float32


def test_stride_keeps_every_second_row_and_dilation_spreads_the_taps():
    h = np.array([[[1, 2, 3]]], np.float32)
    dense = matrix(ConvSpec("conv", (9,), (3,)), h).toarray()
    np.testing.assert_array_equal(matrix(ConvSpec("conv", (9,), (3,), stride=(2,)), h).toarray(), dense[::2])
    spread = np.array([[[1, 0, 2, 0, 3]]], np.float32)
    np.testing.assert_array_equal(
        matrix(ConvSpec("conv", (9,), (3,), dilation=(2,)), h).toarray(),
        matrix(ConvSpec("conv", (9,), (5,)), spread).toarray(),
    )


def circulant(w, n, **rest):
    m = len(w)
    spec = ConvSpec("conv", (n,), (m,), padding=((m // 2, m - 1 - m // 2),), padding_mode="circular", **rest)
    return matrix(spec, np.array(w, np.float32).reshape(1, 1, m)).toarray()


def shift(n):
    """The shift operator as a circulant matrix, y_i = x_{i-1}; its transpose shifts back."""
    return circulant([1, 0, 0], n)


@pytest.mark.parametrize(("n", "m"), [(8, 3), (7, 4), (5, 5), (6, 1)])
def test_circular_padding_makes_a_circulant_matrix(n, m):
    c = circulant(range(1, m + 1), n)
    assert c.shape == (n, n)
    for i in range(n):
        np.testing.assert_array_equal(c[i], np.roll(c[0], i), "each row is the one above, shifted")
    np.testing.assert_array_equal(c[0, : m - m // 2], np.arange(m // 2 + 1, m + 1))


@pytest.mark.parametrize("n", [4, 5, 9])
def test_the_shift_operator_is_orthogonal_and_moves_every_element(n):
    s = shift(n)
    np.testing.assert_array_equal(s @ s.T, np.eye(n))
    np.testing.assert_array_equal(s.T @ s, np.eye(n))
    np.testing.assert_array_equal(s @ np.arange(n), np.roll(np.arange(n), 1))


@pytest.mark.parametrize(("n", "m"), [(8, 3), (7, 4), (9, 5)])
def test_a_circulant_matrix_commutes_with_the_shift_and_a_toeplitz_matrix_does_not(n, m):
    w, s = np.arange(1, m + 1, dtype=np.float32), shift(n)
    np.testing.assert_array_equal(circulant(w, n) @ s.T, s.T @ circulant(w, n))
    spec = ConvSpec("conv", (n,), (m,), padding=((m // 2, m - 1 - m // 2),))
    t = matrix(spec, w.reshape(1, 1, m)).toarray()
    assert np.any(t @ s.T != s.T @ t)


def test_the_eigenvalues_of_a_circulant_are_the_dft_of_its_first_column():
    c = circulant([2, 7, 1], 8)
    modes = np.exp(-2j * np.pi * np.outer(np.arange(8), np.arange(8)) / 8)
    np.testing.assert_allclose(modes @ c, np.diag(np.fft.fft(c[:, 0])) @ modes, atol=1e-5)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_other_padding_changes_the_boundary_rows_only(mode):
    w = np.array([[[1, 2, 4, 8, 16]]], np.float32)
    zeros, other = (
        matrix(ConvSpec("conv", (9,), (5,), padding=((2, 2),), padding_mode=p), w).toarray() for p in ("zeros", mode)
    )
    np.testing.assert_array_equal(other[2:-2], zeros[2:-2])
    first = {"reflect": [4, 10, 17], "replicate": [7, 8, 16]}[mode]
    np.testing.assert_array_equal(other[0, :3], first)
    np.testing.assert_array_equal(other.sum(1), np.full(9, 31), "no tap is lost")


def test_two_axes_nest_toeplitz_blocks_in_a_toeplitz_matrix():
    spec = ConvSpec("conv", (4, 5), (3, 3), padding=((1, 1), (1, 1)))
    w = np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
    blocks = matrix(spec, w).toarray().reshape(4, 5, 4, 5).transpose(0, 2, 1, 3)
    rows = [matrix(ConvSpec("conv", (5,), (3,), padding=((1, 1),)), w[:, :, k]).toarray() for k in range(3)]
    for i in range(4):
        for j in range(4):
            k = j - i + 1
            np.testing.assert_array_equal(blocks[i, j], rows[k] if 0 <= k < 3 else np.zeros((5, 5)))


def test_two_circular_axes_make_a_matrix_that_commutes_with_both_shifts():
    spec = ConvSpec("conv", (4, 5), (3, 2), padding=((1, 1), (1, 0)), padding_mode="circular")
    c = matrix(spec, np.arange(1, 7, dtype=np.float32).reshape(1, 1, 3, 2)).toarray()
    for s in (np.kron(shift(4), np.eye(5)), np.kron(np.eye(4), shift(5))):
        np.testing.assert_array_equal(c @ s, s @ c)


def test_groups_are_blocks_on_the_diagonal():
    spec = SHAPES["2d-groups"]
    w = integers(spec)[1]
    blocks = matrix(spec, w).toarray().reshape(3, -1, 3, 2 * 6 * 7)
    for i in range(3):
        part = ConvSpec("conv", spec.in_size, spec.kernel_size, in_channels=2, out_channels=3)
        for j in range(3):
            want = matrix(part, w[3 * i : 3 * i + 3]).toarray() if i == j else np.zeros_like(blocks[i, :, j])
            np.testing.assert_array_equal(blocks[i, :, j], want)


def test_a_transposed_convolution_is_the_transposed_matrix():
    conv = ConvSpec("conv", (7, 8), (3, 2), in_channels=4, out_channels=6, groups=2, stride=(2, 3), padding=((1, 1), (0, 0)))
    back = ConvSpec(
        "conv_transpose", conv.out_size, (3, 2), in_channels=6, out_channels=4, groups=2, stride=(2, 3),
        padding=conv.padding, output_padding=(0, 0),
    )  # fmt: skip
    assert back.out_size == conv.in_size
    w = integers(conv)[1]
    assert (matrix(back, w) != matrix(conv, w).T).nnz == 0


def test_an_average_pool_divides_the_rows_of_a_matrix_of_ones():
    a = matrix(ConvSpec("avg_pool", (4,), (3,), padding=((1, 1),))).toarray()
    third = np.float32(1) / np.float32(3)
    np.testing.assert_array_equal(a[:2], np.array([[0.5, 0.5, 0, 0], [third, third, third, 0]], np.float32))


@pytest.mark.parametrize("name", [n for n in SHAPES if n in TAKEN and SHAPES[n].batch])
def test_the_matrix_applied_is_the_operator_and_is_as_sparse_as_predicted(name):
    spec = SHAPES[name]
    x, w, _ = integers(spec)
    a = matrix(spec, w)
    y = (a @ x.reshape(spec.batch, -1).T).T.reshape(spec.out_shape)
    want = define(spec, x, w)
    if spec.op == "avg_pool":  # each entry is a rounded quotient: K + 1 roundings of numbers up to 2
        np.testing.assert_allclose(y, want, rtol=0, atol=2 * (spec.accumulation_length + 1) * 2.0**-24)
    else:
        np.testing.assert_array_equal(y, want)
    assert structure(spec).columns.size == entries(spec)
    if spec.padding_mode == "zeros":
        assert a.nnz == entries(spec) == spec.macs // spec.batch
        assert a.has_canonical_format


def test_an_axis_table_says_what_every_tap_of_every_output_reads():
    a = Axis(5, 3, s=2, lo=2, hi=2, d=2)
    want = {"zeros": [[-1, 0, 2], [0, 2, 4], [2, 4, -1]], "circular": [[3, 0, 2], [0, 2, 4], [2, 4, 1]],
            "reflect": [[2, 0, 2], [0, 2, 4], [2, 4, 2]], "replicate": [[0, 0, 2], [0, 2, 4], [2, 4, 4]]}  # fmt: skip
    for mode, table in want.items():
        assert axis_table(a, 5, 3, mode).tolist() == table


# --- honesty ------------------------------------------------------------------------------------
LARGER = {
    "conv": ConvSpec("conv", (40, 41), (3, 3), in_channels=8, out_channels=9, batch=2, padding=((1, 1), (1, 1)), bias=True),
    "one-channel": ConvSpec("conv", (90, 91), (9, 9), padding=((4, 4), (4, 4)), in_dtype="f64"),
    "circular-half": ConvSpec("conv", (50, 41), (3, 3), 3, 8, 8, groups=4, padding=((1, 1), (1, 1)), padding_mode="circular",
                              in_dtype="f16", flip=True),
    "depthwise": ConvSpec("conv", (40, 41), (3, 3), in_channels=32, out_channels=32, groups=32, in_dtype="i8"),
    "transpose": ConvSpec("conv_transpose", (20, 21), (3, 3), in_channels=8, out_channels=16, stride=(2, 2), bias=True),
    "pool": ConvSpec("avg_pool", (60, 61), (3, 3), in_channels=16, stride=(2, 2), in_dtype="bf16", batch=4),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGER)
def test_it_allocates_what_it_says_and_says_little_more(name):
    spec = LARGER[name]
    x, w, b = integers(spec)
    run(backend, "cpu", spec, x, w, b)  # imports and caches are not workspace
    out = np.empty(spec.out_shape, rounded(spec, np.zeros(1)).dtype)
    tracemalloc.start()
    with backend.prepare(spec, "cpu") as prepared:
        prepared.run(x, w, b, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= backend.workspace_bytes(spec) + 50_000 <= 1.5 * peak + 150_000


def test_the_largest_matrix_fits_a_worker():
    spec = ConvSpec("conv", (1600, 1500), (5, 5))
    assert 0.99 * MOST_ENTRIES < entries(spec) <= MOST_ENTRIES
    assert backend.workspace_bytes(spec) < 1.5 * 2**30


def test_it_keeps_the_contract():
    assert checked(backend, "toeplitz=backends.toeplitz:backend") is backend
    with pytest.raises(Unsupported, match="no device 'gpu': its device is 'cpu'"):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "gpu")


def _python(code):
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reading_info_imports_no_scipy():
    code = "import sys; from backends.toeplitz import backend; from harness.spec import ConvSpec;"
    code += "s = ConvSpec('conv', (5,), (3,)); backend.info.limits.why_not(s); backend.workspace_bytes(s);"
    assert _python(code + "print('scipy' in sys.modules)") == "False"


def test_without_scipy_the_probe_says_what_to_install():
    code = "import sys; sys.modules['scipy'] = None; from backends.toeplitz import backend; p = backend.probe();"
    out = _python(code + "print(p.devices, p.reason, p.hint)")
    assert out.startswith("() backend 'toeplitz' needs scipy")
    assert out.endswith("pip install 'convproof[toeplitz]'")
