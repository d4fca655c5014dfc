"""An OpenCL backend with a tile in local memory, and the same with one fault each that a host seldom shows.

Reached by FILE.py:NAME. The faults are those of real kernels: a barrier left out, a bound that is one too high, an element
of local memory that nobody fills.
"""

from pathlib import Path

import numpy as np

from backends.opencl.runtime import Runtime, import_cl
from harness.backend import BackendInfo, Limits, Unsupported

LOCAL = 8
SOURCE = """
__kernel void tiled(__global const float *x, __global const float *w, __global float *y, int n, int k, int out)
{
    __local float tile[LOCAL + 32];
    const int l = get_local_id(0), i = get_global_id(0), first = get_group_id(0) * LOCAL;
    for (int t = l; t < LOCAL + k - FILLED; t += LOCAL)
        if (first + t BELOW n)
            tile[t] = x[first + t];
    BARRIER;
    if (i < out) {
        float sum = 0;
        for (int t = 0; t < k; ++t)
            sum += w[t] * tile[l + t];
        y[i] = sum;
    }
}
"""
RIGHT = {"LOCAL": LOCAL, "FILLED": 1, "BELOW": "<", "BARRIER": "barrier(CLK_LOCAL_MEM_FENCE)"}
LIMITS = Limits(
    ("conv",), ("f32",), (1,), ("zeros",), dilation=False, groups=False, flip=False, zero_batch=False,
    rule=lambda s: "it has one channel and nothing else"
    if s.bias or (s.in_channels, s.out_channels, s.batch) != (1, 1, 1) or s.padding != ((0, 0),) or s.stride != (1,)
    else None,
)  # fmt: skip


class Tiled:
    """`macros` replace those of the right kernel."""

    def __init__(self, name, **macros):
        self.info, self.macros, self.runtime = BackendInfo(name, limits=LIMITS), RIGHT | macros, Runtime()

    def probe(self):
        return self.runtime.probe()

    def workspace_bytes(self, spec):
        return 1 << 16

    def prepare(self, spec, device):
        if reason := LIMITS.why_not(spec):
            raise Unsupported(reason)
        source = SOURCE
        for name, text in self.macros.items():
            source = source.replace(name, str(text))
        return Prepared(spec, self.runtime.queue(device), self.runtime.program(device, source, ()))


class Prepared:
    def __init__(self, spec, queue, program):
        self.spec, self.queue, self.kernel = spec, queue, import_cl().Kernel(program, "tiled")

    def run(self, x, w, b, out):
        cl = import_cl()
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        inputs = [cl.Buffer(self.queue.context, flags, hostbuf=a) for a in (x, w)]
        y = cl.Buffer(self.queue.context, cl.mem_flags.WRITE_ONLY, out.nbytes)
        self.kernel.set_args(*inputs, y, *(np.int32(n) for n in (x.size, w.size, out.size)))
        cl.enqueue_nd_range_kernel(self.queue, self.kernel, (-(-out.size // LOCAL) * LOCAL,), (LOCAL,))
        cl.enqueue_copy(self.queue, out, y)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


def reference(name):
    """The reference of a backend of this file."""
    return f"{Path(__file__).resolve()}:{name}"


right = Tiled("right")
no_barrier = Tiled("no-barrier", BARRIER="")
reads_one_too_many = Tiled("reads-one-too-many", BELOW="<=")
fills_one_too_few = Tiled("fills-one-too-few", FILLED=2)
