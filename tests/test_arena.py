"""The arena lays arrays apart, and a write of one byte beside them is seen."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from harness.checks.contract import pattern
from harness.data import Operands
from harness.run.arena import ALIGN, GUARD_BYTES, Arena, Desk, layout
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

SPECS = {
    "f32-bias": ConvSpec("conv", (7, 5), (3, 2), in_channels=3, out_channels=2, bias=True),
    "f64": ConvSpec("conv", (9,), (3,), in_dtype="f64"),
    "bf16": ConvSpec("conv", (9,), (3,), in_dtype="bf16"),
    "f16": ConvSpec("conv", (9,), (3,), in_dtype="f16", bias=True),
    "i8": ConvSpec("conv", (9,), (3,), in_dtype="i8", bias=True),
    "pool": ConvSpec("max_pool", (8, 8), (2, 2)),
    "no-image": ConvSpec("conv", (9,), (3,), batch=0),
}


@pytest.fixture
def arena():
    made = Arena()
    yield made
    made.close()


def operands(spec):
    """Bytes of all kinds, NaNs among them."""
    rng = np.random.default_rng(0)

    def fill(shape, name):
        if shape is None:
            return None
        dtype = numpy_dtype(name)
        n = int(np.prod(shape)) * dtype.itemsize
        return rng.integers(0, 256, n, dtype=np.uint8).view(dtype).reshape(shape)

    return Operands(fill(spec.x_shape, spec.in_dtype), fill(spec.w_shape, spec.in_dtype), fill(spec.b_shape, spec.acc_dtype))


def placed(arena, name):
    """A desk with operands on it, and its bytes."""
    spec = SPECS[name]
    lay = layout(spec)
    desk, ops = Desk(arena, lay, spec.out_dtype), operands(spec)
    desk.place(ops, pattern(spec.out_dtype, 0))
    return SimpleNamespace(desk=desk, ops=ops, lay=lay, bytes=arena.view(lay.size))


@pytest.mark.parametrize("name", SPECS)
def test_arrays_are_aligned_and_a_guard_band_apart(name):
    lay = layout(SPECS[name])
    assert all(s.offset % ALIGN == 0 for s in lay.slots)
    assert ALIGN >= 64
    ends = [0, *(s.offset + s.nbytes for s in lay.slots)]
    starts = [*(s.offset for s in lay.slots), lay.size]
    assert all(start - end >= GUARD_BYTES for end, start in zip(ends, starts, strict=True))
    assert [(a, b) for _, a, b in lay.guards] == list(zip(ends, starts, strict=True))


@pytest.mark.parametrize("name", SPECS)
def test_what_is_left_alone_shows_no_damage(arena, name):
    p = placed(arena, name)
    p.desk.arrays["out"].view(np.uint8)[...] = 0
    assert p.desk.damage(p.ops) is None


@pytest.mark.parametrize("name", SPECS)
def test_one_byte_at_either_end_of_any_band_is_seen_and_mended(arena, name):
    p = placed(arena, name)
    for text, start, end in p.lay.guards:
        for at in (start, end - 1):
            p.bytes[at] ^= 0x01
            assert p.desk.damage(p.ops) == f"wrote 1 bytes {text}, the first at byte {at - start} of the guard band"
            assert p.desk.damage(p.ops) is None


@pytest.mark.parametrize("name", SPECS)
def test_one_changed_byte_of_an_input_is_seen(arena, name):
    p = placed(arena, name)
    for slot in p.lay.slots:
        if slot.name == "out" or not slot.nbytes:
            continue
        at = slot.offset + slot.nbytes - 1
        p.bytes[at] ^= 0x80
        assert p.desk.damage(p.ops) == f"changed its input {slot.name} in place, first at {[s - 1 for s in slot.shape]}"
        p.bytes[at] ^= 0x80
        assert p.desk.damage(p.ops) is None


def test_a_placed_operand_has_its_bytes_and_the_output_its_poison(arena):
    for name in SPECS:
        p = placed(arena, name)
        for key, a in zip(("x", "w", "b"), p.ops.arrays, strict=True):
            assert a is None or p.desk.arrays[key].tobytes() == a.tobytes()
        out = p.desk.arrays["out"]
        assert np.all(out.view(f"u{out.itemsize}") == pattern(SPECS[name].out_dtype, 0))


def test_an_array_without_elements_has_a_place(arena):
    p = placed(arena, "no-image")
    assert p.desk.arrays["x"].size == p.desk.arrays["out"].size == 0
    assert p.desk.damage(p.ops) is None


def test_a_grown_arena_is_one_memory_for_both_sides():
    ours = Arena()
    theirs = Arena(os.dup(ours.fd))
    try:
        for size in (100, 1 << 20, 5 << 20):
            ours.view(size)[size - 1] = 7
            assert theirs.view(size)[size - 1] == 7
            theirs.view(size)[0] = size % 251
            assert ours.view(size)[0] == size % 251
    finally:
        ours.close()
        theirs.close()


def test_an_arena_has_no_name_in_any_file_system(arena):
    arena.view(1 << 20)
    assert os.readlink(f"/proc/self/fd/{arena.fd}").startswith("/memfd:")
    assert not [n for n in os.listdir("/dev/shm") if "convproof" in n]


def test_a_closed_arena_gives_its_descriptor_back():
    made = Arena()
    made.view(100)
    fd = made.fd
    made.close()
    made.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
