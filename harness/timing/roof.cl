// The roofline of an OpenCL device: multiply-adds in registers, and the triad.
//
// Options: -D SCALAR=float|double, -D VECTOR=SCALAR|SCALARn. Products and sums are written as such and may be
// fused: where a device has one instruction for both, every compiler uses it there, while `fma` and `mad` are calls of
// a function in some (PoCL 3.0).
// Work size: one dimension, any; the first kernel writes an element of `y` a work item.

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT ON

#define STEP(v) v = v * va + vb;
#define ALL(f) f(v0) f(v1) f(v2) f(v3) f(v4) f(v5) f(v6) f(v7) f(v8) f(v9) f(v10) f(v11)

// `turns` times twelve independent multiply-adds on a vector: enough for two units of five cycles, few enough for
// the registers. The values start from memory and end in it, so that nothing is known or dead.
__kernel void multiply_add(__global VECTOR *y, const uint turns, const SCALAR a, const SCALAR b) {
    const size_t i = get_global_id(0);
    const VECTOR va = (VECTOR)(a), vb = (VECTOR)(b);
    const VECTOR x = y[i];
    const SCALAR one = 1;
    VECTOR v0 = x, v1 = v0 + one, v2 = v1 + one, v3 = v2 + one, v4 = v3 + one, v5 = v4 + one;
    VECTOR v6 = v5 + one, v7 = v6 + one, v8 = v7 + one, v9 = v8 + one, v10 = v9 + one, v11 = v10 + one;
    for (uint turn = 0; turn < turns; turn++) {
        ALL(STEP)
    }
    y[i] = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)) + ((v8 + v9) + (v10 + v11));
}

// `passes` times a[i] = b[i] + s * c[i] on `count` vectors. Work item k starts at k * `first` and does every
// `step`-th within `span`: neighbours side by side suit a GPU, a stretch for each suits a processor.
__kernel void triad(__global VECTOR *a, __global const VECTOR *b, __global const VECTOR *c, const SCALAR s, const uint count,
                    const uint first, const uint span, const uint step, const uint passes) {
    const VECTOR vs = (VECTOR)(s);
    const uint start = (uint)get_global_id(0) * first;
    const uint end = min(count, start + span);
    for (uint pass = 0; pass < passes; pass++)
        for (uint i = start; i < end; i += step)
            a[i] = vs * c[i] + b[i];
}
