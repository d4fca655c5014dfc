/* conv_transpose: y[n,m,o] = b[m] + sum over c, k of x[n,c,i] * w[c,m,k], where i*stride - low + k*dilation = o
 *
 * The definition scatters; this gathers, so that no two items write one element.
 *
 * Arguments
 *   geometry  Geometry (common.cl), one, constant
 *   x         TYPE[batch][in_channels][in_size...]
 *   w         TYPE[in_channels][out_channels/groups][kernel_size...]; read back to front where flip is set
 *   b         TYPE[out_channels]; one element, unread, where has_bias is 0
 *   y         TYPE[batch][out_channels][out_size...], every element written
 * Work size   one item an output element, one dimension, rounded up to the local size (any)
 * Limits      none of its own: 64-bit indices, no local memory; output padding is part of out_size
 */

/* The input element whose tap k lands on output o of axis a, or -1. */
inline long origin_of(long o, long k, int a, __constant const Geometry *g)
{
    const long reach = o + g->low[a] - k * g->dilation[a];
    if (reach < 0 || reach % g->stride[a] != 0)
        return -1;
    const long i = reach / g->stride[a];
    return i < g->in_size[a] ? i : -1;
}

__kernel void conv_transpose(
    __constant const Geometry *restrict g,
    __global const TYPE *restrict x,
    __global const TYPE *restrict w,
    __global const TYPE *restrict b,
    __global TYPE *restrict y)
{
    const long id = get_global_id(0);
    if (id >= output_elements(g))
        return;
    const Place p = place_of(id, g);
    const long channels = g->in_channels / g->groups, group_out = g->out_channels / g->groups;
    const long first = p.m / group_out * channels;
    const long in_h = g->in_size[1], in_w = g->in_size[2];
    const long volume = g->in_size[0] * in_h * in_w;
    const long k_d = g->kernel_size[0], k_h = g->kernel_size[1], k_w = g->kernel_size[2];
    const long taps = k_d * k_h * k_w;
    TYPE sum = 0;
    for (long kd = 0; kd < k_d; ++kd) {
        const long i_d = origin_of(p.o[0], kd, 0, g);
        for (long kh = 0; kh < k_h && i_d >= 0; ++kh) {
            const long i_h = origin_of(p.o[1], kh, 1, g);
            for (long kw = 0; kw < k_w && i_h >= 0; ++kw) {
                const long i_w = origin_of(p.o[2], kw, 2, g);
                if (i_w < 0)
                    continue;
                const long tap = (kd * k_h + kh) * k_w + kw;
                __global const TYPE *filter =
                    w + (first * group_out + p.m % group_out) * taps + (g->flip ? taps - 1 - tap : tap);
                __global const TYPE *element =
                    x + (p.n * g->in_channels + first) * volume + (i_d * in_h + i_h) * in_w + i_w;
                for (long c = 0; c < channels; ++c)
                    sum = rounded(sum + rounded(element[c * volume] * filter[c * group_out * taps]));
            }
        }
    }
    y[id] = g->has_bias ? rounded(sum + b[p.m]) : sum;
}
