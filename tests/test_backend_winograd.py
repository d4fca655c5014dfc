"""`winograd` and `winograd-f43` compute what the definition says, by matrices that are right exactly."""

import subprocess
import sys
import tracemalloc
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, reals, rounded, run

from backends import winograd
from backends.winograd import backend, backend_f43, tile_counts
from backends.winograd_transforms import transforms
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

BACKENDS = {"winograd": backend, "winograd-f43": backend_f43}


def _spec(n, **rest):
    return ConvSpec("conv", n, (3,) * len(n), **rest)


MORE = {
    "one output": _spec((3,)),
    "one tile and one": _spec((7,), in_channels=2),
    "even tiles": _spec((10, 6), in_channels=3, out_channels=2, padding=((1, 1), (1, 1))),
    "odd tiles": _spec((9, 12), in_channels=3, out_channels=2, padding=((0, 2), (3, 1)), bias=True, batch=2),
    "prime": _spec((13, 17), in_channels=6, out_channels=4, groups=2, padding=((1, 0), (0, 1)), flip=True),
    "depthwise": _spec((6, 9), in_channels=5, out_channels=10, groups=5, bias=True),
    "circular": _spec((5, 7), padding=((2, 3), (1, 7)), padding_mode="circular", in_channels=2, out_channels=3),
    "reflect": _spec((5, 7), padding=((2, 3), (1, 6)), padding_mode="reflect"),
    "replicate": _spec((3, 4), padding=((5, 6), (7, 2)), padding_mode="replicate", flip=True),
    "crop": _spec((11, 12), padding=((-2, 3), (4, -5)), in_channels=2),
    "far padding": _spec((2, 3), padding=((9, 5), (6, 8)), bias=True),
}
TYPES = {
    f"{name} {triple}": ConvSpec.from_dict(
        {**MORE[name].to_dict(), **dict(zip(("in_dtype", "acc_dtype", "out_dtype"), triple.split("/"), strict=True))}
    )
    for name in ("odd tiles", "prime")
    for triple in ("f64/f64/f64", "f16/f32/f16", "f16/f32/f32", "bf16/f32/bf16", "bf16/f32/f32", "f32/f64/f32")
}
TAKEN = {n: s for n, s in SPECS.items() if backend.info.limits.why_not(s) is None} | MORE | TYPES
EACH = [(b, n) for b in BACKENDS for n in TAKEN]


# --- the matrices ---------------------------------------------------------------------------


def apply(matrix, vector):
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


POINTS = [Fraction(p) for p in (0, 1, -1, 2, -2, "1/2", "-1/2", 4, "-1/4", 3)]


@pytest.mark.parametrize(("m", "r"), [(1, 1), (1, 3), (2, 3), (3, 2), (4, 3), (6, 3), (2, 5), (4, 5), (8, 3)])
def test_the_transforms_compute_the_correlation_exactly(m, r):
    """A^T [(G g) o (B^T d)] = sum_k g_k d_(i+k), for integers, in rational arithmetic, whatever the points."""
    draw = Random(m * 10 + r)
    for _ in range(20):
        at, g, bt = transforms(m, r, draw.sample(POINTS, m + r - 2))
        d = [Fraction(draw.randint(-99, 99)) for _ in range(m + r - 1)]
        taps = [Fraction(draw.randint(-99, 99)) for _ in range(r)]
        products = [a * b for a, b in zip(apply(g, taps), apply(bt, d), strict=True)]
        assert apply(at, products) == [sum(taps[k] * d[i + k] for k in range(r)) for i in range(m)]


def test_f23_has_the_matrices_of_lavin_and_gray_up_to_the_sign_of_the_last_product():
    at, g, bt = transforms(2, 3, (0, 1, -1))
    half = Fraction(1, 2)
    assert at == ((1, 1, 1, 0), (0, 1, -1, 1))
    assert g == ((1, 0, 0), (half, half, half), (half, -half, half), (0, 0, 1))
    assert bt == ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))


def test_f43_has_the_matrices_of_lavin_and_gray():
    at, g, bt = transforms(4, 3, (0, 1, -1, 2, -2))
    assert at == ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
    assert [tuple(24 * v for v in row) for row in g] == [
        (6, 0, 0), (4, 4, 4), (4, -4, 4), (1, 2, 4), (1, -2, 4), (0, 0, 24),
    ]  # fmt: skip
    signs = (1, -1, -1, 1, 1, 1)
    printed = (
        (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
    )  # fmt: skip
    assert bt == tuple(tuple(s * v for v in row) for s, row in zip(signs, printed, strict=True))


@pytest.mark.parametrize("points", [(0, 1), (0, 1, 1), (0, 1, -1, 2)])
def test_points_of_a_wrong_number_or_twice_the_same_are_refused(points):
    with pytest.raises(ValueError, match=r"F\(2,3\) takes 3 distinct finite points: got 0, 1"):
        transforms(2, 3, points)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_declared_class_is_what_is_computed(name):
    b = BACKENDS[name]
    declared = b.info.algorithm
    assert b.info.name == name
    assert b.transforms == transforms(declared.m, declared.r, declared.points)
    assert all(v.denominator in (1, 2) for matrix in backend.transforms for row in matrix for v in row)


# --- the values -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAKEN)
def test_f23_gives_integers_exactly(name):
    spec = TAKEN[name]
    x, w, b = integers(spec)
    np.testing.assert_array_equal(run(backend, "cpu", spec, x, w, b), rounded(spec, define(spec, x, w, b)))


@pytest.mark.parametrize("name", TAKEN)
def test_f43_gives_integers_that_round_to_the_exact_result(name):
    spec = TAKEN[name]
    x, w, b = integers(spec, most=1)
    got = run(backend_f43, "cpu", spec, x, w, b).astype(np.float64)
    np.testing.assert_array_equal(np.rint(got), rounded(spec, define(spec, x, w, b)).astype(np.float64))


def scale(which, spec, x, w):
    """|A^T| sum_c (|G||w|) o (|B^T||x|), nested: the same tiles through matrices without signs, in float64."""
    positive = tuple(tuple(tuple(map(abs, row)) for row in matrix) for matrix in which.transforms)
    wide = ConvSpec.from_dict({**spec.to_dict(), "bias": False, **dict.fromkeys(("in_dtype", "acc_dtype", "out_dtype"), "f64")})
    out = np.empty(spec.out_shape)
    winograd._Prepared(wide, which.m, positive).run(*(np.abs(a.astype(np.float64)) for a in (x, w)), None, out)
    return out


@pytest.mark.parametrize(("which", "name"), EACH)
def test_real_data_stay_within_the_bound_of_the_transforms(which, name):
    spec = TAKEN[name]
    x, w, b = reals(spec)
    got, want = run(BACKENDS[which], "cpu", spec, x, w, b).astype(np.float64), define(spec, x, w, b)
    tol = 4 * spec.acc_type.unit_roundoff * scale(BACKENDS[which], spec, x, w)
    if b is not None:
        tol = tol + 2 * spec.acc_type.unit_roundoff * np.abs(b.astype(np.float64)).reshape(-1, *(1,) * spec.rank)
    assert np.all(np.abs(got - want) <= tol + spec.out_type.unit_roundoff * (np.abs(want) + tol))


@pytest.mark.parametrize("which", BACKENDS)
@pytest.mark.parametrize("place", [0, 3, 4, 10, 16])
def test_a_nan_stays_in_the_tiles_that_read_it(which, place):
    m = BACKENDS[which].m
    spec = _spec((17,), batch=2, in_channels=2, out_channels=2, groups=2)
    x, w, _ = reals(spec)
    clean = run(BACKENDS[which], "cpu", spec, x.copy(), w)
    x = x.copy()
    x[1, 0, place] = np.nan
    got = run(BACKENDS[which], "cpu", spec, x, w)
    o = np.arange(spec.out_size[0])
    tainted = (o // m * m <= place) & (place <= o // m * m + m + 1)
    assert np.isnan(got[1, 0, (o <= place) & (place <= o + 2)]).all()
    got[1, 0, tainted] = clean[1, 0, tainted]
    np.testing.assert_array_equal(got, clean)


@pytest.mark.parametrize(
    ("n", "m", "tiles"), [(3, 2, 1), (4, 2, 1), (5, 2, 2), (6, 4, 1), (7, 4, 2), (102, 4, 25), (103, 4, 26)]
)
def test_the_last_tile_may_reach_beyond_the_output(n, m, tiles):
    spec = _spec((n,))
    assert tile_counts(spec, m) == (tiles,)
    assert winograd.lengths(spec, m) == (tiles * m + 2,)


# --- the contract ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (ConvSpec("conv", (9, 9), (3, 1)), "its kernels have 3 taps an axis"),
        (_spec((9, 9), stride=(1, 2)), "its stride is 1"),
        (_spec((9, 9), dilation=(1, 2)), "dilation is not supported"),
        (_spec((9, 9), in_dtype="i8"), "dtype i8 is not among f32"),
        (_spec((9, 9), in_dtype="f16", acc_dtype="f16"), "dtype f16/f16/f16 is not among f32"),
        (_spec((9, 9, 9)), "3 spatial axes are not among 1, 2"),
        (ConvSpec("conv_transpose", (9,), (3,)), "op conv_transpose is not among conv"),
    ],
)
def test_what_it_does_not_do_is_said(spec, reason):
    for b in BACKENDS.values():
        assert b.info.limits.why_not(spec).startswith(reason)


@pytest.mark.parametrize("which", BACKENDS)
def test_it_keeps_the_contract(which):
    b = BACKENDS[which]
    assert checked(b, f"{which}=backends.winograd:backend") is b
    with pytest.raises(Unsupported, match=f"backend '{which}' has no device 'gpu': its device is 'cpu'"):
        b.prepare(_spec((5,)), "gpu")
    spec = TAKEN["odd tiles"]
    with b.prepare(spec, "cpu") as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, bias = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, bias, out)
            np.testing.assert_array_equal(np.rint(out), define(spec, x, w, bias))
            assert set(prepared.phases) == {"pack", "kernel", "copy"}


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing():
    spec = _spec((8,), in_dtype="f16")
    x, w = np.full(spec.x_shape, 60000, np.float16), np.full(spec.w_shape, 60000, np.float16)
    assert np.isinf(run(backend, "cpu", spec, x, w)).all()


LARGE = {
    "long": _spec((100_000,), in_channels=2, out_channels=3),
    "plane": _spec((150, 170), batch=2, in_channels=3, out_channels=4, padding=((1, 1), (1, 1))),
    "channels": _spec((14, 14), in_channels=128, out_channels=96, in_dtype="f16"),
    "depthwise": _spec((40, 40), in_channels=32, out_channels=32, groups=32, bias=True),
}


@pytest.mark.parametrize("which", BACKENDS)
@pytest.mark.parametrize("name", LARGE)
def test_the_workspace_is_what_it_allocates_at_most_and_not_much_more(which, name):
    spec, b = LARGE[name], BACKENDS[which]
    arrays = reals(spec)
    out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
    with b.prepare(spec, "cpu") as prepared:
        tracemalloc.start()
        try:
            prepared.run(*arrays, out)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak <= b.workspace_bytes(spec) <= 3 * peak + 100_000


def test_it_needs_numpy_alone():
    code = "import sys; import backends.winograd; print(sorted({'scipy', 'numba', 'ml_dtypes'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
