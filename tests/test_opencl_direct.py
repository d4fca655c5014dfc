"""`opencl-direct`, `opencl-winograd` and `opencl-auto` compute what the definition says, on processors and as on a GPU.

No GPU is needed: the kernels that one would run are run on the device that is there, which is told to be no processor.
"""

import random
from math import prod

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, reals, rounded, run

from backends.opencl import auto, direct, runtime, tiles, winograd
from backends.opencl.launch import why_not
from backends.opencl.windows import windows
from harness.backend import DIRECT, Prepared, Unsupported
from harness.spec import ConvSpec, SpecError

BACKENDS = {"direct": direct.backend, "winograd": winograd.backend, "f23": winograd.backend_f23, "auto": auto.backend}
SAME = ((1, 1), (1, 1))


@pytest.fixture(scope="module")
def device():
    probe = direct.backend.probe()
    if not probe.devices:
        pytest.skip(probe.reason)
    return probe.devices[0].name


@pytest.fixture
def as_gpu(monkeypatch):
    """What a GPU would be given: groups of items, local memory, copies to the device."""
    monkeypatch.setattr(runtime, "is_processor", lambda handle: False)
    monkeypatch.setattr(runtime, "shares_memory", lambda handle: False)


def taken(backend, specs):
    return [name for name, spec in specs.items() if backend.info.limits.why_not(spec) is None]


def exact(backend, device, spec, seed=0):
    x, w, b = integers(spec, seed)
    np.testing.assert_array_equal(run(backend, device, spec, x, w, b), rounded(spec, define(spec, x, w, b)))


def close(backend, device, spec, seed=0):
    """Within some rounding errors of the largest output: what a transform that is not exact on integers gives."""
    x, w, b = integers(spec, seed)
    want = define(spec, x, w, b)
    got = run(backend, device, spec, x, w, b).astype(np.float64)
    scale = np.abs(define(spec, *(None if a is None else np.abs(a) for a in (x, w, b)))).max(initial=1)
    u = max(spec.acc_type.unit_roundoff, spec.out_type.unit_roundoff)
    assert np.abs(got - want).max(initial=0) <= 200 * u * scale


@pytest.mark.parametrize("name", taken(direct.backend, SPECS))
def test_direct_is_exact_on_integers(device, name):
    exact(direct.backend, device, SPECS[name])


@pytest.mark.parametrize("name", taken(direct.backend, SPECS))
def test_direct_is_exact_as_on_a_gpu(device, as_gpu, name):
    exact(direct.backend, device, SPECS[name])


@pytest.mark.parametrize("name", taken(winograd.backend, SPECS))
def test_winograd_is_right(device, name):
    close(winograd.backend, device, SPECS[name])
    exact(winograd.backend_f23, device, SPECS[name])


@pytest.mark.parametrize("name", taken(winograd.backend, SPECS))
def test_winograd_is_right_as_on_a_gpu(device, as_gpu, name):
    close(winograd.backend, device, SPECS[name])
    exact(winograd.backend_f23, device, SPECS[name])


@pytest.mark.parametrize("name", taken(direct.backend, SPECS))
def test_real_data_stay_within_the_direct_bound(device, name):
    spec = SPECS[name]
    if not spec.acc_type.is_float:
        pytest.skip("integers have no rounding")
    x, w, b = reals(spec)
    got = run(direct.backend, device, spec, x, w, b).astype(np.float64)
    want = define(spec, x, w, b)
    scale = define(spec, *(None if a is None else np.abs(a) for a in (x, w, b)))
    roundings = 8 * max(1.0, spec.accumulation_length**0.5) * spec.acc_type.unit_roundoff
    assert np.all(np.abs(got - want) <= roundings * scale + spec.out_type.unit_roundoff * np.abs(want))


#: Each met an error of its own, or a branch that no other reaches.
CORNERS = {
    "residues-without-taps": ConvSpec("conv_transpose", (28, 7), (1, 7), 1, 3, 8, (2, 1), ((1, 1), (2, 1)), bias=True),
    "depth-residues": ConvSpec("conv_transpose", (2, 5, 6), (1, 3, 3), 1, 2, 9, (2, 1, 1), ((0, 0), (1, 1), (1, 1))),
    "depth-residues-of-whole-planes": ConvSpec("conv_transpose", (2, 5, 6), (1, 1, 1), 1, 2, 9, (2, 1, 1)),
    "rows-copied-beyond-their-end": ConvSpec("conv", (112, 112), (3, 3), 1, 6, 6, (2, 2), SAME, groups=6),
    "narrow-depthwise": ConvSpec("conv", (7, 7), (3, 3), 2, 40, 40, (1, 1), SAME, groups=40, bias=True),
    "strips-of-depthwise": ConvSpec("conv", (300, 40), (5, 5), 1, 3, 6, (1, 1), ((2, 2), (2, 2)), groups=3),
    "wide-depthwise": ConvSpec("conv", (9, 200), (3, 3), 1, 4, 4, (1, 3), ((1, 1), (0, 2)), "circular", (1, 2), 4),
    "dense": ConvSpec("conv", (1, 1), (1, 1), 3, 130, 37, bias=True),
    "dense-window": ConvSpec("conv", (5, 7), (5, 7), 2, 6, 9, groups=3),
    "one-place-around": ConvSpec("conv", (1, 70), (3, 3), 2, 3, 19, (1, 1), ((1, 1), (0, 0)), "circular"),
    "last-vector-begins-earlier": ConvSpec("conv", (14, 14), (1, 1), 1, 5, 9),
    "last-block-begins-earlier": ConvSpec("conv", (20, 20), (3, 3), 1, 2, 11, (1, 1), SAME, bias=True),
    "planes": ConvSpec("conv", (5, 9, 20), (3, 3, 3), 1, 3, 8, (1, 1, 1), ((1, 1),) * 3),
    "stride-of-more-than-the-taps": ConvSpec("conv", (33, 33), (2, 2), 1, 4, 8, (3, 3)),
    "many-chunks": ConvSpec("conv", (40, 40), (1, 1), 1, 600, 24),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners(device, name):
    exact(direct.backend, device, CORNERS[name])


@pytest.mark.parametrize("name", CORNERS)
def test_corners_as_on_a_gpu(device, as_gpu, name):
    exact(direct.backend, device, CORNERS[name])


def drawn(seed, count, winograd=False):
    """Specifications about the edges of tiles: sizes, channels, strides, dilations, paddings, groups."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        rank, groups = rng.choice([1, 2, 2, 2, 3]), rng.choice([1, 1, 2, 3])
        inner = groups * rng.choice([1, 2, 3, 8, 9]), groups * rng.choice([1, 3, 7, 8, 9, 16, 19])
        if rng.random() < 0.25:
            groups, inner = inner[0], (inner[0], inner[0] * rng.choice([1, 2]))
        sizes = [1, 3, 7, 14, 15, 16, 17, 28, 33] if rank < 3 else [1, 3, 5, 9]
        kernel = (3,) * rank if winograd else tuple(rng.choice(sizes[:3]) for _ in range(rank))
        few = tuple(rng.choice([1, 1, 2, 3]) for _ in range(rank))
        words = {
            "op": "conv" if winograd else rng.choice(["conv", "conv", "conv_transpose"]),
            "in_size": tuple(rng.choice(sizes) for _ in range(rank)),
            "kernel_size": kernel,
            "batch": rng.choice([1, 1, 2]),
            "padding": tuple((rng.choice([0, 1, 2, -1]), rng.choice([0, 1, 2])) for _ in range(rank)),
            "padding_mode": rng.choice(["zeros", "zeros", "circular", "reflect", "replicate"]),
            "bias": rng.random() < 0.5,
            "flip": rng.random() < 0.3,
            "in_dtype": rng.choice(["f32", "f32", "f64"] if winograd else ["f32", "f32", "f64", "i8"]),
        }
        if not winograd:
            words |= {"stride": few, "dilation": tuple(rng.choice([1, 1, 2]) for _ in range(rank)), "groups": groups}
        try:
            spec = ConvSpec(in_channels=inner[0], out_channels=inner[1], **words)
        except SpecError:
            continue
        if prod(spec.out_shape) * prod(spec.kernel_size) * inner[0] < 2e6:
            found.append(spec)
    return found


@pytest.mark.parametrize("spec", drawn(1, 60), ids=str)
def test_drawn_specifications(device, spec):
    exact(direct.backend, device, spec)


@pytest.mark.parametrize("spec", [s for s in drawn(2, 60, winograd=True) if s.rank == 2], ids=str)
def test_drawn_specifications_by_winograd(device, spec):
    exact(winograd.backend_f23, device, spec)
    close(winograd.backend, device, spec)


@pytest.mark.parametrize("size", [(6, 5), (32, 40), (3, 70)])
def test_what_is_cropped_takes_no_part_in_the_transforms(device, size):
    """Cropped columns of 2^40 beside numbers of 1: transformed with the others they would leave rounding errors."""
    spec = ConvSpec("conv", size, (3, 3), 1, 2, 3, (1, 1), ((1, 0), (0, -2)))
    x, w, b = integers(spec)
    x[..., -2:] *= 2.0**40
    want = define(spec, x, w, b)
    for backend in (winograd.backend, winograd.backend_f23):
        np.testing.assert_allclose(run(backend, device, spec, x, w, b), want, atol=1e-3)


@pytest.mark.parametrize("size", [(30, 30), (13, 70), (64, 33)])
def test_chunks_of_tiles_and_of_filters(device, monkeypatch, size):
    """Chunks so small that there are many of both kinds, the last one not full."""
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 1 << 16)
    for inner, outer in ((3, 5), (5, 70)):
        exact(winograd.backend_f23, device, ConvSpec("conv", size, (3, 3), 2, inner, outer, (1, 1), SAME, bias=True))


@pytest.mark.parametrize("filters", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("pixels", [1, 15, 16, 17, 47, 48, 49, 127, 128, 129])
def test_every_tail_of_a_tile(device, monkeypatch, pixels, filters):
    """Tails of all shapes of tiles, those that large problems choose too."""
    spec = ConvSpec("conv", (pixels,), (3,), 1, 3, filters, (1,), ((1, 1),))
    for block, vectors in {shape for shape in (*tiles.SHAPES, *tiles.SMALL_SHAPES) if shape[0] <= filters}:
        monkeypatch.setattr(direct, "default_tile", lambda *_, b=block, v=vectors: tiles.Tile(b, v, 16, 1))
        exact(direct.backend, device, spec)


def test_the_model_prefers_tiles_that_divide():
    assert tiles.default_tile(3136, 24, True, 4).vectors != 3
    assert tiles.default_tile(224, 512, True, 4) == tiles.Tile(8, 3, 16, 1)
    assert tiles.default_tile(10**6, 64, True, 8).width == 8
    assert tiles.default_tile(50, 3, False, 4) == tiles.Tile(2, 4, 1, 64)


def test_windows_of_a_stride_are_residues():
    plan = windows(ConvSpec("conv", (9, 8), (3, 2), 1, 1, 1, (2, 2), ((1, 1), (0, 0))))
    assert plan.stored.phases == ((0,), (0, 1), (0, 1))
    assert not plan.dense
    assert windows(ConvSpec("conv", (9, 8), (1, 1))).dense
    assert windows(ConvSpec("conv", (9, 8), (3, 3))).dense  # no padding: the input is what would be stored
    assert not windows(ConvSpec("conv", (9,), (1,), stride=(2,))).dense


def test_one_prepared_serves_new_operands_and_tells_its_phases(device):
    spec = SPECS["2d-groups"]
    with direct.backend.prepare(spec, device) as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(out, define(spec, x, w, b))
            assert {"pack", "transfer", "kernel"} <= set(prepared.phases)
            assert 0 < prepared.phases["kernel"] <= prepared.device_seconds


def test_auto_chooses_by_the_specification_alone_and_says_why(device):
    large = ConvSpec("conv", (56, 56), (3, 3), 1, 64, 64, (1, 1), SAME)
    small = ConvSpec("conv", (7, 7), (3, 3), 1, 512, 512, (1, 1), SAME)
    other = ConvSpec("conv", (7, 7), (5, 5), 1, 4, 4)
    assert auto.backend.choose(large)[0] == "opencl-winograd"
    assert auto.backend.choose(small)[0] == "opencl-direct"
    assert "by the model" in auto.backend.choose(small)[1]
    assert auto.backend.choose(other) == ("opencl-direct", "its kernels have 3 taps an axis")
    info = auto.backend.info
    assert info.algorithm_for(large) == info.algorithm_for(small) == winograd.backend.info.algorithm
    assert info.algorithm_for(other) == DIRECT
    assert (info.taint_for(large), info.taint_for(other)) == ("tile", "exact")
    with auto.backend.prepare(other, device) as prepared:
        assert prepared.choice == "opencl-direct"
        assert prepared.reason


@pytest.mark.parametrize("name", taken(auto.backend, SPECS))
def test_auto_is_right(device, name):
    spec = SPECS[name]
    (exact if auto.backend.info.algorithm_for(spec) == DIRECT else close)(auto.backend, device, spec)


@pytest.mark.parametrize("name", BACKENDS)
def test_an_unknown_device_has_a_reason(device, name):
    with pytest.raises(Unsupported, match="no device 'abacus'"):
        BACKENDS[name].prepare(ConvSpec("conv", (9, 9), (3, 3)), "abacus")


def test_what_a_device_cannot_allocate_has_a_reason():
    from types import SimpleNamespace

    small = SimpleNamespace(name="toy", extensions="", max_mem_alloc_size=1000)
    spec = ConvSpec("conv", (9,), (3,))
    assert why_not(spec, small) is None
    assert "the stored input [1, 1, 300] takes 1200 bytes as f32" in why_not(spec, small, {"the stored input": (1, 1, 300)})


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("spec", [*CORNERS.values(), ConvSpec("conv", (30, 30), (3, 3), 1, 64, 64, (1, 1), SAME)], ids=str)
def test_the_workspace_covers_what_is_allocated(device, monkeypatch, name, spec):
    """Buffers of the kernels alone, as they are allocated; operands are the host's memory or copies of it."""
    backend = BACKENDS[name]
    if backend.info.limits.why_not(spec) is not None:
        pytest.skip("not taken")
    from backends.opencl.launch import Launches

    sizes = []
    scratch = Launches.scratch

    def counted(self, elements, itemsize=None):
        sizes.append(elements * (itemsize or self.work.itemsize))
        return scratch(self, elements, itemsize)

    monkeypatch.setattr(Launches, "scratch", counted)
    backend.prepare(spec, device).__exit__(None, None, None)
    assert backend.workspace_bytes(spec) >= sum(sizes)
