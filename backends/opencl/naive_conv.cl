/* conv: y[n,m,o] = b[m] + sum over c, k of w[m,c,k] * x[n, first(m)+c, o*stride - low + k*dilation]
 *
 * Arguments
 *   geometry  Geometry (common.cl), one, constant
 *   x         TYPE[batch][in_channels][in_size...]
 *   w         TYPE[out_channels][in_channels/groups][kernel_size...]; read back to front where flip is set
 *   b         TYPE[out_channels]; one element, unread, where has_bias is 0
 *   y         TYPE[batch][out_channels][out_size...], every element written
 * Work size   one item an output element, one dimension, rounded up to the local size (any)
 * Limits      none of its own: 64-bit indices, no local memory; every padding mode, crops included
 */
__kernel void conv(
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
    const long channels = g->in_channels / g->groups;
    const long first = p.m / (g->out_channels / g->groups) * channels;
    const long in_d = g->in_size[0], in_h = g->in_size[1], in_w = g->in_size[2];
    const long k_d = g->kernel_size[0], k_h = g->kernel_size[1], k_w = g->kernel_size[2];
    const long volume = in_d * in_h * in_w, taps = k_d * k_h * k_w, mode = g->padding_mode;
    TYPE sum = 0;
    /* Taps outside, channels inside: a position is worked out once for all channels. */
    for (long kd = 0; kd < k_d; ++kd) {
        const long i_d = source_of(p.o[0] * g->stride[0] - g->low[0] + kd * g->dilation[0], in_d, mode);
        for (long kh = 0; kh < k_h && i_d >= 0; ++kh) {
            const long i_h = source_of(p.o[1] * g->stride[1] - g->low[1] + kh * g->dilation[1], in_h, mode);
            for (long kw = 0; kw < k_w && i_h >= 0; ++kw) {
                const long i_w = source_of(p.o[2] * g->stride[2] - g->low[2] + kw * g->dilation[2], in_w, mode);
                if (i_w < 0)
                    continue;
                const long tap = (kd * k_h + kh) * k_w + kw;
                __global const TYPE *filter = w + p.m * channels * taps + (g->flip ? taps - 1 - tap : tap);
                __global const TYPE *element =
                    x + (p.n * g->in_channels + first) * volume + (i_d * in_h + i_h) * in_w + i_w;
                for (long c = 0; c < channels; ++c)
                    sum = rounded(sum + rounded(filter[c * taps] * element[c * volume]));
            }
        }
    }
    y[id] = g->has_bias ? rounded(sum + b[p.m]) : sum;
}
