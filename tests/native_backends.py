"""Backends whose loops are compiled C, right but for one stray access whose value changes nothing. Reached by FILE.py:NAME.

No guard band can show such an access: what is read is dropped, what is written was there before.
"""

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from harness.backend import BackendInfo as Info
from harness.backend import Limits, Probe, Unsupported, host_device

SOURCE = """
void correlate(const float *x, const float *w, float *y, long h, long v, long kh, long kw,
               long read_x, long read_w, long write_y)
{
    volatile float dropped;
    for (long o = 0; o + kh <= h; o++)
        for (long p = 0; p + kw <= v; p++) {
            float s = 0;
            for (long i = 0; i < kh; i++)
                for (long j = 0; j < kw; j++) s += w[i * kw + j] * x[(o + i) * v + p + j];
            y[o * (v - kw + 1) + p] = s;
        }
    if (read_x) dropped = x[read_x];
    if (read_w) dropped = w[read_w];
    if (write_y) { volatile float *at = y + write_y; *at = *at; }
}
"""
LIMITS = Limits(
    ("conv",), ("f32",), (2,), ("zeros",), dilation=False, groups=False, flip=False, negative_padding=False, zero_batch=False,
    rule=lambda s: "it has one channel, stride 1 and nothing else"
    if s.bias or (s.in_channels, s.out_channels, s.batch) != (1, 1, 1) or s.padding != ((0, 0),) * 2 or s.stride != (1, 1)
    else None,
)  # fmt: skip


@cache
def library():
    """The compiled loops."""
    folder = tempfile.mkdtemp()
    source, made = Path(folder, "rows.c"), Path(folder, "rows.so")
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
    return ctypes.CDLL(str(made))


class Native:
    """`stray(spec)` gives the elements of x, w and y that are touched besides, 0 for none."""

    def __init__(self, name, stray, **info):
        self.info, self.stray = Info(name, limits=LIMITS, **info), stray

    def probe(self):
        return Probe((host_device(),))

    def workspace_bytes(self, spec):
        return 0

    def prepare(self, spec, device):
        if reason := LIMITS.why_not(spec):
            raise Unsupported(reason)
        return Compiled(spec, self.stray(spec))


class Compiled:
    def __init__(self, spec, stray):
        self.sizes = [ctypes.c_long(n) for n in (*spec.in_size, *spec.kernel_size, *stray)]

    def run(self, x, w, b, out):
        library().correlate(*(ctypes.c_void_p(a.ctypes.data) for a in (x, w, out)), *self.sizes)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


def reference(name):
    """The reference of a backend of this file."""
    return f"{Path(__file__).resolve()}:{name}"


right = Native("right", lambda s: (0, 0, 0))
reads_a_row_too_many = Native("reads-a-row-too-many", lambda s: (s.in_size[0] * s.in_size[1] + s.in_size[1] - 1, 0, 0))
reads_an_element_too_many = Native(
    "reads-an-element-too-many", lambda s: (s.in_size[0] * s.in_size[1], 0, 0), layouts=("C", "unaligned")
)
reads_before_the_weights = Native("reads-before-the-weights", lambda s: (0, -1, 0))
writes_behind_the_output = Native("writes-behind-the-output", lambda s: (0, 0, s.out_size[0] * s.out_size[1] + 15))
