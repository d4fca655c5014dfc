"""`opencl-fft` computes what the definition says within the bound of its class, by either path and any lanes."""

from dataclasses import replace

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, operands, reals, rounded, run
from test_backend_fft import normwise

from backends.opencl import fft, runtime
from backends.opencl.fft import OpenCLFft, Plan, backend, order, pack_plan, plan, radices, stage_factors
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec

TAKEN = {name: spec for name, spec in SPECS.items() if backend.info.limits.why_not(spec) is None}
WIDE = {
    "long": ConvSpec("conv", (9000,), (700,), bias=True),
    "long-channels": ConvSpec("conv", (3000,), (65,), batch=2, in_channels=5, out_channels=7, stride=(2,), padding=((40, 3),)),
    "plane": ConvSpec("conv", (70, 90), (15, 17), in_channels=3, padding=((7, 7), (8, 8)), padding_mode="reflect"),
    "depthwise": ConvSpec("conv", (40, 37), (9, 9), batch=2, in_channels=20, out_channels=40, groups=20, bias=True),
    "rows": ConvSpec("conv", (12, 13), (5, 5), in_channels=20, out_channels=35, flip=True, dilation=(2, 1)),
    "volume": ConvSpec("conv", (20, 21, 22), (5, 4, 6), in_channels=2, out_channels=3, stride=(1, 2, 1), in_dtype="f64"),
}


@pytest.fixture(scope="module")
def device():
    probe = backend.probe()
    if not probe.devices:
        pytest.skip(probe.reason)
    return probe.devices[0].name


@pytest.fixture(params=["processor", "gpu"])
def path(request, monkeypatch):
    """The kernels of either kind of device, both on the device there is."""
    if request.param == "gpu":
        monkeypatch.setattr(runtime, "is_processor", lambda handle: False)


def within_the_bound(got, spec, x, w, b):
    want = define(spec, x, w, b)
    bias = 0.0 if b is None else 2.0 * float(np.max(np.abs(b)))
    tol = normwise(spec, x, w) + bias * spec.acc_type.unit_roundoff
    return np.all(np.abs(got.astype(np.float64) - want) <= tol + spec.out_type.unit_roundoff * (np.abs(want) + tol))


def test_it_takes_every_convolution_but_those_with_a_half_accumulator_or_bytes():
    left = {(s.op, "/".join(s.dtypes)) for s in SPECS.values() if backend.info.limits.why_not(s) is not None}
    assert {types for op, types in left if op == "conv"} == {"f16/f16/f16", "i8/i32/i32"}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", TAKEN)
def test_integers_round_to_the_exact_result(device, name):
    spec = TAKEN[name]
    x, w, b = integers(spec)
    got, want = run(backend, device, spec, x, w, b), define(spec, x, w, b)
    assert got.dtype == rounded(spec, want).dtype
    np.testing.assert_array_equal(np.rint(got.astype(np.float64)), rounded(spec, want).astype(np.float64))


@pytest.mark.parametrize("name", TAKEN)
def test_real_data_stay_within_the_bound_of_the_transform(device, name):
    spec = TAKEN[name]
    x, w, b = reals(spec)
    assert within_the_bound(run(backend, device, spec, x, w, b), spec, x, w, b)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("across", ["blocks", "rows", "groups"])
@pytest.mark.parametrize("name", WIDE)
def test_the_lanes_may_be_blocks_rows_or_groups(device, name, across, monkeypatch):
    spec = WIDE[name]
    monkeypatch.setattr(fft, "plan", lambda *args: replace(plan(*args), across=across))
    x, w, b = reals(spec)
    assert within_the_bound(run(OpenCLFft(), device, spec, x, w, b), spec, x, w, b)


@pytest.mark.parametrize("lengths", [(16,), (24,), (128,), (192,), (768,), (6144,)])
@pytest.mark.usefixtures("path")
def test_any_length_of_transform_gives_the_same(device, lengths, monkeypatch):
    spec = ConvSpec("conv", (300,), (9,), batch=3, in_channels=2, out_channels=2, padding=((4, 4),))
    transform = (1, 1, *lengths)
    block = (1, 1, min(spec.out_size[0], lengths[0] - 8))
    monkeypatch.setattr(fft, "plan", lambda *args: replace(plan(*args), transform=transform, block=block))
    x, w, b = reals(spec)
    assert within_the_bound(run(OpenCLFft(), device, spec, x, w, b), spec, x, w, b)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["1d-kernel-exceeds-input", "2d-output-in-padding"])
def test_outputs_that_no_tap_reaches_are_the_bias_itself(device, name):
    spec = ConvSpec.from_dict({**SPECS[name].to_dict(), "bias": True})
    x, w, b = reals(spec)
    reached = define(spec, np.ones_like(x), np.ones_like(w)) != 0
    got = run(backend, device, spec, x, w, b)
    want = np.broadcast_to(b.reshape(-1, *(1,) * spec.rank), got.shape)
    np.testing.assert_array_equal(got[~reached], want[~reached])
    assert np.all(got[reached] != want[reached])


@pytest.mark.parametrize("name", ["2d-bias-batch", "2d-groups", "depthwise"])
def test_a_nan_stays_in_its_image_and_group(device, name):
    spec = ConvSpec.from_dict({**(SPECS | WIDE)[name].to_dict(), "batch": 2})
    x, w, b = reals(spec)
    clean = run(backend, device, spec, x.copy(), w, b)
    x = x.copy()
    x[1, 0].flat[-1] = np.nan
    got = run(backend, device, spec, x, w, b)
    np.testing.assert_array_equal(got[0], clean[0])
    per_group = spec.out_channels // spec.groups
    np.testing.assert_array_equal(got[1, per_group:], clean[1, per_group:])
    assert np.isnan(got[1, :per_group]).any()


def test_small_channels_are_not_blurred_by_large_ones(device):
    """Only blocks of one image share a transform: the error of an output is relative to its own image and filter."""
    spec = ConvSpec("conv", (60,), (9,), batch=2, out_channels=2)
    x, w = operands(spec, lambda shape: np.random.default_rng(0).normal(size=shape))[:2]
    x[0] *= 1e6
    w[0] *= 1e6
    got, want = run(backend, device, spec, x, w), define(spec, x, w)
    assert np.max(np.abs(got[1, 1] - want[1, 1])) < 1e-5


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing(device):
    spec = ConvSpec("conv", (2,), (2,), in_dtype="f16")
    x, w = operands(spec, lambda shape: np.full(shape, 60000.0))[:2]
    assert run(backend, device, spec, x, w)[0, 0, 0] == np.inf


def test_one_prepared_serves_new_weights_and_reports_device_time(device):
    spec = SPECS["2d-groups"]
    with backend.prepare(spec, device) as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(np.rint(out), define(spec, x, w, b))
            assert prepared.phases["kernel"] > 0
            assert prepared.phases["pack"] > 0


def test_it_keeps_the_contract(device):
    assert checked(backend, "opencl-fft=backends.opencl.fft:backend") is backend
    with pytest.raises(Unsupported, match="no device 'abacus': it has "):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "abacus")


@pytest.mark.parametrize("name", WIDE)
def test_the_workspace_covers_the_spectra(device, name):
    spec = WIDE[name]
    with backend.prepare(spec, device) as prepared:
        taken = sum(buffer.size for buffer in prepared._owned)
    assert taken <= backend.workspace_bytes(spec)


# --- the plan -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])
def test_stages_and_factors_are_those_of_a_discrete_fourier_transform(n):
    rng = np.random.default_rng(n)
    z = rng.normal(size=n) + 1j * rng.normal(size=n)
    want, f = np.fft.fft(z)[order(n)], stage_factors(n)
    whole, at = n, 0
    for radix in radices(n):
        sub = whole // radix
        turn = np.concatenate([np.ones((sub, 1)), (f[at : at + whole - sub] @ [1, 1j]).reshape(sub, radix - 1)], 1).T
        z = (np.fft.fft(z.reshape(-1, radix, sub), axis=1) * turn).ravel()
        whole, at = sub, at + whole - sub
    np.testing.assert_allclose(z, want, atol=1e-13 * n)
    assert len(f) == n - 1


@pytest.mark.parametrize("name", WIDE)
def test_the_plan_has_the_order_of_the_struct(name):
    spec = WIDE[name]
    p = plan(spec, 16, 4)
    fields, table = pack_plan(spec, p)
    text = runtime.source("fft.cl")
    names = text[text.index("typedef struct {") : text.index("} Plan;")].replace("typedef struct {", "")
    lines = [line.partition("/*")[0].replace("long", "") for line in names.splitlines()]
    found, at = {}, 0
    for field in "".join(lines).replace(";", ",").split(","):
        if label := field.strip():
            sizes = [int(s.rstrip("]")) for s in label.split("[")[1:]]
            count = int(np.prod(sizes)) if sizes else 1
            found[label.partition("[")[0]] = fields[at : at + count].tolist()
            at += count
    assert at == len(fields)
    lifted = spec.lifted()
    assert found["size"] == list(p.size)
    assert found["pitch"] == [p.pitch]
    assert found["transform"] == list(p.transform)
    assert found["block"] == list(p.block)
    assert found["kernel_size"] == list(lifted.kernel_size)
    assert found["dilation"] == list(lifted.dilation)
    assert found["out_channels"] == [spec.out_channels]
    assert found["passes"] == [sum(n > 1 for n in p.size)]
    assert found["between"][0] + (2 * p.transform[2] if p.split else 0) == 2 * len(table)


def test_long_inputs_are_cut_and_lanes_are_what_there_are_many_of():
    assert plan(ConvSpec("conv", (1_000_000,), (501,)), 16, 4).across == "blocks"
    assert plan(ConvSpec("conv", (1_000_000,), (501,)), 16, 4).transform[2] < 20_000
    assert plan(ConvSpec("conv", (31, 31), (31, 31), in_channels=64, out_channels=64, groups=64), 16, 4).across == "groups"
    assert plan(ConvSpec("conv", (20, 20), (9, 9), in_channels=64, out_channels=64), 16, 4).across == "rows"


def test_a_long_axis_is_two_and_a_plane_is_not():
    long = plan(ConvSpec("conv", (100_000,), (501,)), 16, 4)
    assert long.split
    assert long.size[1] * long.size[2] == long.transform[2]
    assert isinstance(long, Plan)
    assert not plan(ConvSpec("conv", (300, 300), (31, 31)), 16, 4).split
