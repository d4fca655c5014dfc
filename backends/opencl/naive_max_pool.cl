/* max_pool: y[n,c,o] = max over k of x[n,c, o*stride - low + k*dilation]; a NaN in the window is its maximum
 *
 * Arguments
 *   geometry  Geometry (common.cl), one, constant
 *   x         TYPE[batch][channels][in_size...]
 *   y         TYPE[batch][channels][out_size...], every element written
 * Work size   one item an output element, one dimension, rounded up to the local size (any)
 * Limits      padding is excluded, never read as a number; the specification sees to it that every
 *             window holds an element; TYPE is signed (int for i8)
 */
__kernel void max_pool(
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
    TYPE best = 0;
    int found = 0; /* no element yet: spares a lowest value, which -infinity is only for floats */
    for (long kd = 0; kd < g->kernel_size[0]; ++kd) {
        const long i_d = source_of(p.o[0] * g->stride[0] - g->low[0] + kd * g->dilation[0], in_d, ZEROS);
        for (long kh = 0; kh < g->kernel_size[1]; ++kh) {
            const long i_h = source_of(p.o[1] * g->stride[1] - g->low[1] + kh * g->dilation[1], in_h, ZEROS);
            if (i_d < 0 || i_h < 0)
                continue;
            for (long kw = 0; kw < g->kernel_size[2]; ++kw) {
                const long i_w = source_of(p.o[2] * g->stride[2] - g->low[2] + kw * g->dilation[2], in_w, ZEROS);
                if (i_w < 0)
                    continue;
                const TYPE v = image[(i_d * in_h + i_h) * in_w + i_w];
                if (!found || v > best || v != v) /* v != v: NaN; nothing is greater than one that is held */
                    best = v;
                found = 1;
            }
        }
    }
    y[id] = best;
}
