"""The two oracles against each other, against rational arithmetic, numpy and scipy; and the cache of their results."""

import threading
from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, specs

from harness.data import Operands, draw
from harness.oracle import cache as cache_module
from harness.oracle import exact_element, fsum_reference, reference
from harness.oracle.cache import OracleCache
from harness.spec import ConvSpec

F64 = ("f64", "f64", "f64")
ETA = Fraction(2) ** -1074


def random_operands(spec, rng, low=-3, high=3):
    """Full significands with exponents in [low, high]."""

    def fill(shape):
        return rng.choice([-1.0, 1.0], shape) * np.ldexp(rng.uniform(0.5, 1, shape), rng.integers(low, high + 1, shape))

    return Operands(*(None if s is None else fill(s) for s in (spec.x_shape, spec.w_shape, spec.b_shape)))


def exact_scale(spec, ops, index):
    """A = |w| * |x| exactly, with the bias; the mean of |x| for an average."""
    size = Operands(*(None if a is None else np.abs(a) for a in ops.arrays))
    return exact_element(spec, size, index)


def assert_accurate(spec, ops, bits=100):
    ref = reference(spec, ops)
    for index in np.ndindex(*spec.out_shape):
        lo = 0.0 if ref.lo is None else ref.lo[index]
        err = abs(Fraction(float(ref.hi[index])) + Fraction(float(lo)) - exact_element(spec, ops, index))
        assert err <= exact_scale(spec, ops, index) / 2**bits + ETA, (index, float(err))
    return ref


@examples(200)
@given(specs(), st.integers(0, 99))
def test_both_oracles_agree_on_every_op_mode_and_type(spec, seed):
    for recipe in ("integers", "input_impulses") + (("zero_mean",) if spec.in_type.is_float else ()):
        ops = draw(recipe, spec, "a-case", seed)
        ref, again = reference(spec, ops), fsum_reference(spec, ops)
        assert ref.hi.shape == spec.out_shape
        if recipe == "zero_mean" or spec.op == "avg_pool":
            scale = ref.scale + (0 if ops.b is None else 4)
            assert np.all(np.abs(ref.hi - again) <= 2.0**-50 * scale)
        else:
            np.testing.assert_array_equal(ref.hi, again)


@examples(100)
@given(specs(triples=(F64, ("f32", "f64", "f32")), ops=("conv", "conv_transpose", "avg_pool"), most=40), st.integers(0, 99))
def test_float64_is_right_to_2_to_the_minus_100(spec, seed):
    ops = random_operands(spec, np.random.default_rng(seed))
    if spec.in_dtype == "f32":
        ops = Operands(ops.x.astype(np.float32), None if ops.w is None else ops.w.astype(np.float32), ops.b)
    ref = assert_accurate(spec, ops)
    if ref.lo is not None:
        np.testing.assert_array_equal(ref.hi, ref.hi + ref.lo)


@examples(25)
@given(
    specs(triples=(F64,), ops=("conv", "conv_transpose", "avg_pool"), most=25),
    st.integers(0, 99),
    st.sampled_from((30, 100, 200)),
)
def test_float64_is_right_over_a_wide_range_of_exponents(spec, seed, span):
    assert_accurate(spec, random_operands(spec, np.random.default_rng(seed), -span, span), bits=95)


def test_float64_survives_cancellation():
    """1e16 + 1 - 1e16, and a sum whose leading 100 bits cancel."""
    spec = ConvSpec("conv", (3,), (3,), in_dtype="f64")
    ops = Operands(np.array([[[1e16, 1.0, -1e16]]]), np.ones((1, 1, 3)))
    assert reference(spec, ops).hi[0, 0, 0] == 1.0
    v = 1 + 2.0**-52
    ops = Operands(np.array([[[v, -v * v, 2.0**-104]]]), np.array([[[v, 1.0, -1.0]]]))
    ref = reference(spec, ops)
    assert Fraction(float(ref.hi[0, 0, 0])) + Fraction(float(ref.lo[0, 0, 0])) == exact_element(spec, ops, (0, 0, 0))


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (5e-324, 1.5), (3e-310, 1.25), (1e-200, 1e-120), (1e300, 1e-310), (1e-160, 1e-160), (1e300, 1e7),
        (1.7976931348623157e308, 0.01), (1e-300, 1e-300), (2e-308, 1.0), (1e308, 0.1), (0.0, 1.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
def test_float64_is_right_at_the_ends_of_its_range(x, w, op):
    spec = ConvSpec(op, (6,), (3,), in_channels=2, in_dtype="f64", bias=True)
    rng = np.random.default_rng(0)
    ops = Operands(x * rng.uniform(0.5, 1, spec.x_shape), w * rng.uniform(-1, 1, spec.w_shape), min(x, 1.0) * w * np.ones(1))
    assert_accurate(spec, ops)
    again = fsum_reference(spec, ops)
    ref = reference(spec, ops)
    assert np.all(np.isfinite(ref.hi))
    np.testing.assert_allclose(ref.hi, again, rtol=2**-45, atol=5e-324)


@pytest.mark.parametrize("x", [1e305, 1e307, 5e-324, 1e-310, 1.0])
def test_a_float64_average_is_right_at_the_ends_of_its_range(x):
    spec = ConvSpec("avg_pool", (7,), (3,), in_dtype="f64", padding=((1, 1),), count_include_pad=True)
    ops = Operands(x * np.array([[[1.0, -0.7, 0.3, -0.9, 0.2, 0.1, -0.6]]]))
    assert_accurate(spec, ops, bits=90)


def test_an_empty_batch_has_an_empty_reference():
    for op in ("conv", "conv_transpose", "max_pool", "avg_pool"):
        for name in ("f32", "f64"):
            spec = ConvSpec(op, (5, 6), (2, 3), batch=0, in_channels=2, in_dtype=name)
            ref = reference(spec, draw("zero_mean", spec, "c", 0))
            assert ref.hi.shape == ref.scale.shape == spec.out_shape
            assert fsum_reference(spec, draw("zero_mean", spec, "c", 0)).shape == spec.out_shape


@pytest.mark.parametrize("name", ["f16", "f32", "f64"])
def test_outputs_that_no_tap_reaches_equal_the_bias(name):
    up = ConvSpec("conv_transpose", (3,), (1,), stride=(3,), output_padding=(2,), bias=True, in_dtype=name)
    far = ConvSpec("conv", (2,), (2,), padding=((5, 5),), bias=True, in_dtype=name)
    for spec in (up, far):
        ops = draw("zero_mean", spec, "c", 0)
        ref = reference(spec, ops)
        bare = np.array(spec.tap_counts[0]) == 0
        assert bare.any()
        assert np.all(ref.hi[0, 0, bare] == float(ops.b[0]))
        assert np.all(ref.scale[0, 0, bare] == 0)
        assert np.all(ref.scale[0, 0, ~bare] > 0)


@pytest.mark.parametrize("mode", ["valid", "full"])
def test_flipped_is_numpys_convolve_and_plain_is_its_correlate(mode):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(9), rng.standard_normal(4)
    pad = ((3, 3),) if mode == "full" else ((0, 0),)
    for flip, right in ((True, np.convolve(x, w, mode)), (False, np.correlate(x, w, mode))):
        spec = ConvSpec("conv", (9,), (4,), padding=pad, flip=flip, in_dtype="f64")
        y = reference(spec, Operands(x.reshape(1, 1, -1), w.reshape(1, 1, -1))).hi[0, 0]
        np.testing.assert_allclose(y, right, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_scipy_agrees_in_every_rank(rank):
    rng = np.random.default_rng(rank)
    n, m = (6, 5, 7)[:rank], (3, 2, 4)[:rank]
    x, w = rng.standard_normal(n), rng.standard_normal(m)
    ops = Operands(x.reshape(1, 1, *n), w.reshape(1, 1, *m))
    plain = ConvSpec("conv", n, m, in_dtype="f64")
    np.testing.assert_allclose(reference(plain, ops).hi[0, 0], scipy.signal.correlate(x, w, "valid", "direct"), rtol=1e-11)
    # the transpose of a dense correlation is the full convolution
    up = ConvSpec("conv_transpose", n, m, in_dtype="f64")
    np.testing.assert_allclose(
        reference(up, ops).hi[0, 0], scipy.signal.convolve(x, w, "full", "direct"), rtol=1e-11, atol=1e-14
    )
    # boundary modes, in two axes
    if rank == 2:
        for mode, theirs in (("circular", "wrap"), ("zeros", "fill")):
            pads = tuple(((k - 1) // 2, k // 2) for k in m)
            spec = ConvSpec("conv", n, m, padding=pads, padding_mode=mode, in_dtype="f64")
            right = scipy.signal.correlate2d(x, w, "full", theirs)
            at = tuple(slice(k - 1 - lo, k - 1 - lo + s) for k, (lo, _), s in zip(m, pads, n, strict=True))
            np.testing.assert_allclose(reference(spec, ops).hi[0, 0], right[at], rtol=1e-11)


@pytest.mark.parametrize(("mode", "theirs"), [("circular", "wrap"), ("reflect", "reflect"), ("replicate", "edge")])
def test_padding_modes_are_numpys_up_to_their_limits(mode, theirs):
    n = 5
    most = {"circular": n, "reflect": n - 1, "replicate": 9}[mode]
    spec = ConvSpec("conv", (n,), (1,), padding=((most, most),), padding_mode=mode, in_dtype="f64")
    x = np.arange(1.0, n + 1)
    y = reference(spec, Operands(x.reshape(1, 1, -1), np.ones((1, 1, 1)))).hi[0, 0]
    np.testing.assert_array_equal(y, np.pad(x, most, theirs))


def test_pytorchs_averages_under_ceil_mode():
    """torch 2.13 avg_pool1d(arange(1..6), 3, 2, 1, ceil_mode=True): padding counts or not, the overhang never."""
    x = np.arange(1.0, 7).reshape(1, 1, -1)
    for include, right in ((False, [1.5, 3.0, 5.0, 6.0]), (True, [1.0, 3.0, 5.0, 3.0])):
        spec = ConvSpec("avg_pool", (6,), (3,), stride=(2,), padding=((1, 1),), ceil_mode=True, count_include_pad=include)
        np.testing.assert_allclose(reference(spec, Operands(x.astype(np.float32))).hi[0, 0], right)


def test_a_transposed_convolution_is_the_adjoint():
    """<A x, y> = <x, A^T y>, exactly on integers: the transpose has the same weights and geometry."""
    rng = np.random.default_rng(5)
    for s, d, lo, hi, n, m in [(2, 1, 1, 0, 7, 3), (3, 2, 2, 2, 8, 3), (1, 3, 0, 4, 6, 2)]:
        same_both = {"groups": 2, "stride": (s,), "dilation": (d,), "padding": ((lo, hi),), "in_dtype": "f64"}
        fwd = ConvSpec("conv", (n,), (m,), in_channels=4, out_channels=6, **same_both)
        extra = ((n + lo + hi - d * (m - 1) - 1) % s,)
        back = ConvSpec("conv_transpose", fwd.out_size, (m,), in_channels=6, out_channels=4, output_padding=extra, **same_both)
        assert back.out_size == (n,)
        x, y, w = (rng.integers(-9, 10, s).astype(float) for s in (fwd.x_shape, fwd.out_shape, fwd.w_shape))
        assert np.sum(reference(fwd, Operands(x, w)).hi * y) == np.sum(x * reference(back, Operands(y, w)).hi)


# --- the cache ----------------------------------------------------------------------------------
SPEC = ConvSpec("conv", (12, 12), (3, 3), in_channels=2, out_channels=2)
SIZE = 8 * 2 * 200 + 4 * 2 * 144 + 4 * 36


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def counting(spec, ops):
        calls.append(spec)
        return reference(spec, ops)

    monkeypatch.setattr(cache_module, "reference", counting)
    return calls


@pytest.fixture
def kept(monkeypatch):
    """Every result is worth a file."""
    monkeypatch.setattr(cache_module, "WORTH_A_FILE", 0)


def same(a, b):
    return all(np.array_equal(p, q) for p, q in ((a.hi, b.hi), (a.scale, b.scale))) and (a.lo is None) == (b.lo is None)


def test_memory_holds_what_was_asked_last(counted):
    cache = OracleCache(0, limit=2 * (SIZE + cache_module.ENTRY) + SIZE // 2)
    first = cache.get("integers", SPEC, "a")[1]
    assert cache.get("integers", SPEC, "a")[1] is first
    cache.get("integers", SPEC, "b")
    cache.get("integers", SPEC, "a")
    cache.get("integers", SPEC, "c")  # b was used longest ago
    assert len(counted) == 3
    assert cache.get("integers", SPEC, "a")[1] is first
    cache.get("integers", SPEC, "b")
    assert len(counted) == 4


def test_an_entry_larger_than_the_limit_is_held_alone_and_counted_right():
    cache = OracleCache(0, limit=10)
    for name in ("a", "b", "a", "c"):
        cache.get("integers", SPEC, name)
        assert len(cache._held) == 1
        assert cache._bytes == sum(map(cache_module._size, cache._held.values()))
    cache._keep(next(iter(cache._held)), next(iter(cache._held.values())))
    assert cache._bytes == sum(map(cache_module._size, cache._held.values()))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_file_gives_the_result_back(tmp_path, counted, kept, dtype):
    spec = ConvSpec.from_dict(SPEC.to_dict() | {"in_dtype": dtype, "acc_dtype": dtype, "out_dtype": dtype})
    _, one = OracleCache(0, tmp_path).get("integers", spec, "a")
    _, two = OracleCache(1, tmp_path).get("integers", spec, "a")
    assert len(counted) == 1
    assert same(one, two)
    assert (two.lo is None) == (dtype == "f32")
    assert two.lo is None or np.array_equal(one.lo, two.lo)


def test_seeded_recipes_are_never_kept_on_disk(tmp_path, kept):
    OracleCache(0, tmp_path).get("zero_mean", SPEC, "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "zeroed tail", "one bit", "text", "longer", "huge header"])
def test_a_damaged_file_is_computed_again(tmp_path, counted, kept, damage):
    _, right = OracleCache(0, tmp_path).get("integers", SPEC, "a")
    (path,) = tmp_path.iterdir()
    raw = bytearray(path.read_bytes())
    raw = {
        "truncated": raw[: len(raw) // 2],
        "empty": b"",
        "zeroed tail": raw[:200] + bytes(len(raw) - 200),
        "one bit": raw[:999] + bytes([raw[999] ^ 1]) + raw[1000:],
        "text": b"not an array",
        "longer": raw + b"\0" * 8,
        "huge header": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 999999), }\n",
    }[damage]
    path.write_bytes(bytes(raw))
    _, again = OracleCache(0, tmp_path).get("integers", SPEC, "a")
    assert len(counted) == 2
    assert same(right, again)
    _, third = OracleCache(0, tmp_path).get("integers", SPEC, "a")
    assert len(counted) == 2
    assert same(right, third)


def test_an_edit_of_the_oracle_makes_its_files_stale(tmp_path, counted, kept, monkeypatch):
    OracleCache(0, tmp_path).get("integers", SPEC, "a")
    monkeypatch.setattr(cache_module, "source_digest", lambda: "0123456789abcdef")
    OracleCache(0, tmp_path).get("integers", SPEC, "a")
    assert len(counted) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_directory_that_cannot_be_written_costs_only_time(tmp_path, kept):
    (tmp_path / "file").write_text("in the way")
    _, ref = OracleCache(0, tmp_path / "file").get("integers", SPEC, "a")
    assert ref.hi.shape == SPEC.out_shape


def test_threads_compute_an_entry_once(monkeypatch):
    calls, gate = [], threading.Barrier(8)

    def slow(spec, ops):
        calls.append(spec)
        threading.Event().wait(0.05)
        return reference(spec, ops)

    monkeypatch.setattr(cache_module, "reference", slow)
    cache, found = OracleCache(0), []

    def ask():
        gate.wait()
        found.append(cache.get("integers", SPEC, "a"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(calls) == 1
    assert len({id(f[1]) for f in found}) == 1
    assert cache._busy == {}


def test_an_exception_leaves_the_cache_usable(monkeypatch):
    cache = OracleCache(0)
    monkeypatch.setattr(cache_module, "reference", lambda spec, ops: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.get("integers", SPEC, "a")
    monkeypatch.undo()
    assert cache.get("integers", SPEC, "a")[1].hi.shape == SPEC.out_shape


def test_trimming_removes_what_was_used_longest_ago(tmp_path, kept, monkeypatch):
    import os

    cache = OracleCache(0, tmp_path)
    for i, name in enumerate("abc"):
        cache.get("integers", SPEC, name)
        for path in tmp_path.iterdir():
            if path.stat().st_mtime > 1e6:
                os.utime(path, (i, i))
    sizes = [p.stat().st_size for p in tmp_path.iterdir()]
    monkeypatch.setattr(cache_module, "DISK_LIMIT", sum(sizes) - 1)
    cache.trim()
    assert sorted(p.stat().st_mtime for p in tmp_path.iterdir()) == [1, 2]
