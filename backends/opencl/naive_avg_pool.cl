/* avg_pool: y[n,c,o] = (sum over k of x[n,c, o*stride - low + k*dilation]) / divisor(o)
 *
 * The divisor counts the taps at positions in [-low, n+high) where include_pad is set, the overhang
 * of ceil_mode never; without it the taps on data, in [0, n).
 *
 * Arguments
 *   geometry  Geometry (common.cl), one, constant
 *   x         TYPE[batch][channels][in_size...]
 *   y         TYPE[batch][channels][out_size...], every element written
 * Work size   one item an output element, one dimension, rounded up to the local size (any)
 * Limits      floating-point TYPE only; float division is correctly rounded where the host could ask for
 *             it (-cl-fp32-correctly-rounded-divide-sqrt), else within the 2.5 ulp that OpenCL grants
 */

/* The factor of axis a in the divisor of its output o. */
inline long divisor_of(long o, int a, __constant const Geometry *g)
{
    const long low = g->include_pad ? -g->low[a] : 0;
    const long end = g->include_pad ? g->in_size[a] + g->high[a] : g->in_size[a];
    long count = 0;
    for (long k = 0; k < g->kernel_size[a]; ++k) {
        const long i = o * g->stride[a] - g->low[a] + k * g->dilation[a];
        count += i >= low && i < end;
    }
    return count;
}

__kernel void avg_pool(
    __constant const Geometry *restrict g,
    __global const TYPE *restrict x,
    __global TYPE *restrict y)
{
    const long id = get_global_id(0);
    if (id >= output_elements(g))
        return;
    const Place p = place_of(id, g);
    const long in_d = g->in_size[0], in_h = g->in_size[1], in_w = g->in_size[2];
    __global const TYPE *image = x + (p.n * g->in_channels + p.m) * in_d * in_h * in_w;
    TYPE sum = 0;
    for (long kd = 0; kd < g->kernel_size[0]; ++kd) {
        const long i_d = source_of(p.o[0] * g->stride[0] - g->low[0] + kd * g->dilation[0], in_d, ZEROS);
        for (long kh = 0; kh < g->kernel_size[1]; ++kh) {
            const long i_h = source_of(p.o[1] * g->stride[1] - g->low[1] + kh * g->dilation[1], in_h, ZEROS);
            if (i_d < 0 || i_h < 0)
                continue;
            for (long kw = 0; kw < g->kernel_size[2]; ++kw) {
                const long i_w = source_of(p.o[2] * g->stride[2] - g->low[2] + kw * g->dilation[2], in_w, ZEROS);
                if (i_w >= 0)
                    sum = rounded(sum + image[(i_d * in_h + i_h) * in_w + i_w]);
            }
        }
    }
    const long divisor = divisor_of(p.o[0], 0, g) * divisor_of(p.o[1], 1, g) * divisor_of(p.o[2], 2, g);
    y[id] = rounded(sum / (TYPE)divisor);
}
