"""`opencl-im2col` in both variants: the definition, the product's tails, the chunks' boundaries, what it allocates."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, reals, rounded, run

import backends
from backends.opencl import launch, runtime
from backends.opencl.im2col import (
    DEPTH,
    VARIANTS,
    OpenCLIm2col,
    backend,
    chunks,
    most_bytes,
    pack_patches,
    pack_product,
    parts,
    ranges,
    tile_for,
)
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec

TAKEN = [name for name, spec in SPECS.items() if backend.info.limits.why_not(spec) is None]


@pytest.fixture(scope="module")
def device():
    probe = backend.probe()
    if not probe.devices:
        pytest.skip(probe.reason)
    return probe.devices[0].name


@cache
def made(variant, chunk_bytes=None):
    """One backend a variant: its builds serve all tests."""
    return OpenCLIm2col(variant=variant, chunk_bytes=chunk_bytes)


def exact(own, device, spec, seed=0):
    x, w, b = integers(spec, seed)
    np.testing.assert_array_equal(run(own, device, spec, x, w, b), rounded(spec, define(spec, x, w, b)))


def test_it_takes_every_convolution_and_no_pool():
    assert {SPECS[name].op for name in TAKEN} == {"conv", "conv_transpose"}
    assert {SPECS[name].op for name in set(SPECS) - set(TAKEN)} == {"max_pool", "avg_pool"}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TAKEN)
def test_integers_come_out_exactly(device, name, variant):
    exact(made(variant), device, SPECS[name])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TAKEN)
def test_real_data_stay_within_the_direct_bound(device, name, variant):
    spec = SPECS[name]
    if not spec.acc_type.is_float:
        pytest.skip("integers have no rounding")
    x, w, b = reals(spec)
    got = run(made(variant), device, spec, x, w, b).astype(np.float64)
    want = define(spec, x, w, b)
    scale = define(spec, *(None if a is None else np.abs(a) for a in (x, w, b)))
    roundings = 8 * max(1.0, spec.accumulation_length**0.5) * spec.acc_type.unit_roundoff
    assert np.all(np.abs(got - want) <= roundings * scale + spec.out_type.unit_roundoff * np.abs(want))


def _around(variant):
    """Sizes about the tiles: filters, columns, rows."""
    wide = tile_for(ConvSpec("conv", (9,), (1,), out_channels=64), variant)
    narrow = tile_for(ConvSpec("conv", (9,), (1,), out_channels=1), variant)
    filters = {1, 2, 5, wide.block - 1, wide.block, wide.block + 1, 2 * wide.block + 1}
    columns = {1, wide.width - 1, wide.width, wide.width + 1, narrow.panel + 1}
    columns |= {wide.panel - 1, wide.panel, wide.panel + 1, 2 * wide.panel + wide.width + 3}
    return sorted(filters), sorted(columns - {0}), [1, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 3]


@pytest.mark.parametrize(("variant", "filters"), [(v, m) for v in VARIANTS for m in _around(v)[0]])
def test_every_tail_of_the_product(device, variant, filters):
    """A convolution by one tap is the product itself."""
    for columns in _around(variant)[1]:
        for rows in _around(variant)[2]:
            exact(made(variant), device, ConvSpec("conv", (columns,), (1,), in_channels=rows, out_channels=filters, bias=True))


CHUNKED = {
    "columns": ConvSpec("conv", (21, 30), (3, 3), in_channels=2, out_channels=9, padding=((1, 1), (2, 0)), bias=True),
    "rows": ConvSpec("conv", (9, 8), (3, 2), in_channels=19, out_channels=7, stride=(1, 2), bias=True),
    "matrices": ConvSpec("conv", (40,), (3,), 5, 12, 6, groups=3, padding=((1, 1),), padding_mode="circular", bias=True),
    "flip": ConvSpec("conv", (5, 6, 9), (2, 3, 2), 2, 6, 4, groups=2, dilation=(1, 2, 1), flip=True, bias=True),
    "residues": ConvSpec("conv_transpose", (9, 11), (3, 4), 2, 6, 4, (2, 3), groups=2, output_padding=(1, 2), bias=True),
    "wraps": ConvSpec("conv", (30,), (5,), in_channels=70, out_channels=9, in_dtype="i8"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [1, 3000, 20_000])
@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_join_without_a_seam(device, name, size, variant):
    exact(made(variant, size), device, CHUNKED[name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_smallest_chunk_is_one_channels_panel(device, variant):
    spec = CHUNKED["matrices"]
    panels = -(-spec.out_size[0] // tile_for(spec, variant).panel)
    with made(variant, 1).prepare(spec, device) as prepared:
        assert len(prepared.steps) == 2 * spec.batch * spec.in_channels * panels
    with made(variant).prepare(spec, device) as prepared:
        assert [step.phase for step in prepared.steps] == ["pack", "kernel"]


def test_many_channels_are_multiplied_in_turn(device):
    spec = ConvSpec("conv", (6,), (1,), in_channels=2050, out_channels=3, bias=True)
    with made("vectors").prepare(spec, device) as prepared:
        assert len(prepared.steps) == 6
    exact(made("vectors"), device, spec)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("budget", [1, 5000, 100_000, 1 << 20])
def test_chunks_cover_the_matrices_once_and_keep_their_size(variant, budget):
    for name in TAKEN:
        spec = SPECS[name]
        tile = tile_for(spec, variant)
        for part in parts(spec):
            found = chunks(spec, part, tile, budget, variant)
            item = 8 if spec.acc_dtype == "f64" else 4
            seen = np.zeros([axis[1] for axis in (found.matrices, found.panels, found.channels)], int)
            for chunk in found:
                seen[tuple(slice(first, first + count) for first, count in chunk)] += 1
                size = np.prod([count for _, count in chunk]) * len(part.taps) * tile.panel * item
                assert size <= min(found.bytes, max(budget, len(part.taps) * tile.panel * item))
            assert np.all(seen == 1)
            assert seen.shape[1] * tile.panel >= np.prod(part.size)


@pytest.mark.parametrize(("most", "whole"), [(1, 1), (4, 9), (5, 10), (7, 3), (3, 0)])
def test_ranges_are_adjacent(most, whole):
    found = ranges(most, whole)
    assert [at for first, count in found for at in range(first, first + count)] == list(range(whole))
    assert all(1 <= count <= most for _, count in found)


@pytest.mark.parametrize("name", TAKEN)
def test_the_workspace_covers_what_is_allocated(device, name):
    spec = SPECS[name]
    for variant in VARIANTS:
        with made(variant).prepare(spec, device) as prepared:
            owned = getattr(prepared, "_owned", [])
            assert made(variant).workspace_bytes(spec) >= sum(buffer.size for buffer in owned)


@pytest.mark.parametrize("most_items", [16, 64, 100, 1 << 30])
def test_a_narrower_tile_needs_no_more(most_items):
    for name in TAKEN:
        spec = SPECS[name]
        tile = tile_for(spec, "local", most_items)
        assert np.prod(tile.items) <= most_items
        for part in parts(spec):
            found = chunks(spec, part, tile, 4000, "local")
            assert found.bytes <= most_bytes(spec, part, tile_for(spec, "local"), 4000) or spec.batch == 0


def test_a_panel_beyond_what_the_device_allocates_is_refused(monkeypatch):
    small = SimpleNamespace(name="toy", extensions="", max_mem_alloc_size=10_000, max_work_group_size=64)
    monkeypatch.setattr(launch, "handle_of", lambda *_: small)
    with pytest.raises(Unsupported, match=r"one channel's panel of the patch matrix \[100, 128\] takes 51200 bytes as f32"):
        OpenCLIm2col(variant="vectors").prepare(ConvSpec("conv", (150,), (100,)), "toy")


def test_the_device_chooses_the_variant(device, monkeypatch):
    spec = SPECS["2d-plain"]
    for processor in (True, False):
        monkeypatch.setattr(runtime, "is_processor", lambda _, found=processor: found)
        with backend.prepare(spec, device) as prepared:
            assert prepared.tile == tile_for(spec, "vectors" if processor else "local")


def test_a_half_accumulator_is_left_to_the_general_kernel(device):
    spec = SPECS["3d-all-f16/f16/f16"]
    with backend.prepare(spec, device) as prepared:
        assert type(prepared).__module__ == "backends.opencl.naive"


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_not_finite_stays_in_its_receptive_field(device, variant):
    spec = ConvSpec("conv", (70,), (3,), in_channels=3, out_channels=5, padding=((1, 1),))
    x, w, _ = reals(spec)
    x[0, 1, 69] = np.inf
    out = run(made(variant), device, spec, x, w)
    assert not np.isfinite(out[0, :, 68:]).any()
    assert np.isfinite(out[0, :, :68]).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_prepared_serves_new_weights_and_reports_its_phases(device, variant):
    spec = CHUNKED["residues"]
    with made(variant).prepare(spec, device) as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(out, define(spec, x, w, b))
            assert prepared.phases["pack"] > 0
            assert prepared.phases["kernel"] > 0


def test_it_keeps_the_contract(device):
    assert checked(backend, "opencl-im2col=backends.opencl.im2col:backend") is backend
    with pytest.raises(Unsupported, match="no device 'abacus': it has "):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "abacus")


def _fields(file, name):
    text = (Path(backends.__file__).parent / "opencl" / file).read_text()
    body = text[: text.index(f"}} {name};")].rpartition("typedef struct {")[2]
    lines = [line.partition("/*")[0] for line in body.splitlines()]
    return [f.strip() for f in " ".join(lines).replace("long", "").replace(";", ",").split(",") if f.strip()]


def test_fields_have_the_order_of_the_structs():
    """Read from the source, against a specification whose every number differs."""
    spec = ConvSpec("conv", (50, 60), (2, 3), 4, 10, 15, (7, 8), ((11, 12), (13, 14)), "replicate", (16, 17), 5, flip=True)
    (part,) = parts(spec)
    expected = {
        "mode": [3], "taps": [6], "channels": [2], "matrices": [20], "groups": [5], "filters": [3], "rows": [12],
        "has_bias": [0], "in_size[3]": [1, 50, 60],
        "stride[3]": [1, 7, 8], "size[3]": [1, *spec.out_size], "first[3]": [0, 0, 0],
        "step[3]": [1, 1, 1], "out_size[3]": [1, *spec.out_size],
    }  # fmt: skip
    for file, name, packed in (("im2col.cl", "Patches", pack_patches), ("gemm.cl", "Product", pack_product)):
        assert packed(spec, part).tolist() == [v for field in _fields(file, name) for v in expected[field]]
