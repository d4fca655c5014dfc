/* What the kernels of the OpenCL backends share; put in front of each by backends/runtime.py.
 *
 * Build options
 *   -DTYPE=float|double|int|uint   the element type of every operand on the device: the accumulator's type.
 *                                  f16 and bf16 are widened to float by the host and rounded once by it.
 *   -DDOUBLE                       TYPE is double: cl_khr_fp64 is switched on.
 *   -DHALF                         TYPE is float, but every product and sum is rounded to float16.
 *
 * i8/i32/i32 convolves in uint: its arithmetic wraps by definition, that of int would be undefined.
 * Indices are long throughout: a tensor may exceed 2^31 elements, and padding makes positions negative.
 */
#ifdef DOUBLE
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

/* Axes are depth, height, width: a problem of fewer axes has ones in front (ConvSpec.lifted).
 * The order is that of `pack_geometry` in backends/opencl/naive.py. */
typedef struct {
    long batch, in_channels, out_channels, groups;
    long has_bias, flip, padding_mode, include_pad;
    long in_size[3], kernel_size[3], stride[3], low[3], high[3], dilation[3], out_size[3];
} Geometry;

enum { ZEROS = 0, CIRCULAR = 1, REFLECT = 2, REPLICATE = 3 };

/* An output element's coordinates. */
typedef struct {
    long n, m, o[3];
} Place;

/* Where the work item numbered `id` writes: the output in C order. */
inline Place place_of(long id, __constant const Geometry *g)
{
    Place p;
    for (int a = 2; a >= 0; --a) {
        p.o[a] = id % g->out_size[a];
        id /= g->out_size[a];
    }
    p.m = id % g->out_channels;
    p.n = id / g->out_channels;
    return p;
}

inline long output_elements(__constant const Geometry *g)
{
    return g->batch * g->out_channels * g->out_size[0] * g->out_size[1] * g->out_size[2];
}

/* The input element that stands at position i of an axis of n elements, or -1 where nothing does.
 * The specification bounds the padding (reflect n-1, circular n), so that one wrap is enough. */
inline long source_of(long i, long n, long mode)
{
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case CIRCULAR:
        return i < 0 ? i + n : i - n;
    case REFLECT:
        return i < 0 ? -i : 2 * (n - 1) - i;
    case REPLICATE:
        return i < 0 ? 0 : n - 1;
    default:
        return -1;
    }
}

/* The same for places up to any distance beyond the high padding: `limit` is the first place beyond it. */
inline long source_within(long i, long n, long limit, long mode)
{
    return i < limit ? source_of(i, n, mode) : -1;
}

/* float16 is reached by storing: vstore_half_rte is core OpenCL and rounds to nearest even, where
 * arithmetic on half needs cl_khr_fp16. Rounding a float32 result is innocuous: 24 >= 2*11 + 2 bits. */
#ifdef HALF
inline float rounded(float v)
{
    ushort bits;
    vstore_half_rte(v, 0, (half *)&bits);
    return vload_half(0, (const half *)&bits);
}
#else
#define rounded(v) (v)
#endif
