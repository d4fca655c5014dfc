/* im2col: the patch matrix of a convolution, and the filters of a transposed one as the matrix that multiplies it
 *
 *   B[c, t, p] = x[n, first(m)+c, p*stride + offset[t]]    rows: channels and taps, columns: outputs, one matrix a
 *                                                          sample and group
 *
 * Columns are stored in panels of PANEL, each row by row: what gemm.cl reads is contiguous, whatever the number of
 * columns. A chunk of the matrices is made at a time: some matrices, or panels of one; some channels of each.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DPANEL=48    columns of a panel
 *   -DWIDTH=16    elements of a vector, with -DBY_CHANNEL; otherwise 1
 *   -DBY_CHANNEL  an item stores all taps of a channel in one panel (processors), otherwise an element (GPUs)
 * Arguments of im2col
 *   g        Patches, one, constant
 *   taps     int4[taps]: offsets in depth, height and width
 *   x        TYPE[matrices][channels][in_size...]
 *   out      TYPE[matrices of the chunk][panels][channels of the chunk][taps][PANEL], every element written
 *   first_*, chunk_*  the chunk: matrices, panels, channels
 * Arguments of filters
 *   taps     int4[taps]: the last of each is its place in the filter
 *   w        TYPE[groups][channels][filters][filter_taps]
 *   out      TYPE[groups][filters][channels][taps], every element written
 * Work size   im2col: one item an element of the chunk or a channel of a panel; filters: one item a filter of a group;
 *             in one dimension, rounded up to the local size (any)
 * Limits      an axis, a chunk's rows and its panels of fewer than 2^31, padding included
 */
typedef struct {
    long mode, taps, channels, matrices;
    long in_size[3], stride[3], size[3]; /* size: outputs an axis */
} Patches;

inline TYPE element(__global const TYPE *line, long i, long n, long mode)
{
    const long at = source_of(i, n, mode);
    return at < 0 ? 0 : line[at];
}

__kernel void im2col(
    __constant const Patches *restrict g,
    __global const int4 *restrict taps,
    __global const TYPE *restrict x,
    __global TYPE *restrict out,
    const int first_matrix,
    const int first_panel,
    const int first_channel,
    const int chunk_matrices,
    const int chunk_panels,
    const int chunk_channels)
{
    const int n_taps = g->taps, size_w = g->size[2], size_h = g->size[1];
    const long mode = g->mode, n_d = g->in_size[0], n_h = g->in_size[1], n_w = g->in_size[2];
    const long pixels = g->size[0] * size_h * size_w;
    long rest = get_global_id(0);
#ifdef BY_CHANNEL
    /* neighbours read neighbouring outputs' elements: a line of x is still in the cache */
    const int panel = rest % chunk_panels;
    rest /= chunk_panels;
    const int channel = rest % chunk_channels;
    rest /= chunk_channels;
#else
    const long id = rest;
    const int column = rest % PANEL;
    rest /= PANEL;
    const int tap = rest % n_taps;
    rest /= n_taps;
    const int channel = rest % chunk_channels;
    rest /= chunk_channels;
    const int panel = rest % chunk_panels;
    rest /= chunk_panels;
#endif
    if (rest >= chunk_matrices)
        return;
    const long from = ((long)first_panel + panel) * PANEL;
    __global const TYPE *plane = x + ((first_matrix + rest) * g->channels + first_channel + channel) * n_d * n_h * n_w;
#ifdef BY_CHANNEL
    __global TYPE *row = out + ((rest * chunk_panels + panel) * chunk_channels + channel) * n_taps * PANEL;
    const int wanted = pixels - from < PANEL ? pixels - from : PANEL;
    const int first_w = from % size_w, first_h = from / size_w % size_h, first_d = from / size_w / size_h;
    const int s = g->stride[2], s_h = g->stride[1], s_d = g->stride[0];
    for (int t = 0; t < n_taps; ++t, row += PANEL) {
        const int4 offset = taps[t];
        int lane = 0, w = first_w, h = first_h, d = first_d;
        /* a run: outputs of one line */
        while (lane < wanted) {
            const int run = size_w - w < wanted - lane ? size_w - w : wanted - lane;
            const long i_d = source_of((long)d * s_d + offset.x, n_d, mode);
            const long i_h = source_of((long)h * s_h + offset.y, n_h, mode);
            __global TYPE *to = row + lane;
            if (i_d < 0 || i_h < 0)
                for (int l = 0; l < run; ++l)
                    to[l] = 0;
            else {
                __global const TYPE *line = plane + (i_d * n_h + i_h) * n_w;
                const long at = (long)w * s + offset.z;
                /* [a, z): the outputs whose element lies inside the input, where no index is wrapped */
                int a = 0, z = run;
                if (at < 0) {
                    const long outside = (-at + s - 1) / s;
                    a = outside < run ? outside : run;
                }
                if (at + (long)(run - 1) * s >= n_w) {
                    const long inside = at < n_w ? (n_w - at + s - 1) / s : 0;
                    z = inside > a ? inside : a;
                }
                for (int l = 0; l < a; ++l)
                    to[l] = element(line, at + (long)l * s, n_w, mode);
                for (int l = z; l < run; ++l)
                    to[l] = element(line, at + (long)l * s, n_w, mode);
                int l = a;
                if (s == 1) {
                    for (; l + WIDTH <= z; l += WIDTH)
                        STORE(LOAD(line + at + l), to + l);
                    if (l < z && z - a >= WIDTH) { /* the last vector once more over the one before */
                        STORE(LOAD(line + at + z - WIDTH), to + z - WIDTH);
                        l = z;
                    }
                }
#if WIDTH > 1
                if (s == 2)
                    for (; l + WIDTH < z; l += WIDTH) {
                        const VECTOR low = LOAD(line + at + 2 * l), high = LOAD(line + at + 2 * l + WIDTH);
                        STORE(EVEN(low, high), to + l);
                    }
#endif
                for (; l < z; ++l)
                    to[l] = line[at + (long)l * s];
            }
            lane += run;
            w = 0;
            if (++h == size_h) {
                h = 0;
                ++d;
            }
        }
        for (; lane < PANEL; ++lane) /* multiplied, not stored: zeros cost no traps and no time */
            row[lane] = 0;
    }
#else
    const long p = from + column;
    const int4 offset = taps[tap];
    const long i_d = source_of(p / size_w / size_h * g->stride[0] + offset.x, n_d, mode);
    const long i_h = source_of(p / size_w % size_h * g->stride[1] + offset.y, n_h, mode);
    const bool none = p >= pixels || i_d < 0 || i_h < 0;
    out[id] = none ? 0 : element(plane + (i_d * n_h + i_h) * n_w, p % size_w * g->stride[2] + offset.z, n_w, mode);
#endif
}

__kernel void filters(
    __global const int4 *restrict taps,
    __global const TYPE *restrict w,
    __global TYPE *restrict out,
    const int groups,
    const int channels,
    const int n_filters,
    const int n_taps,
    const int filter_taps)
{
    const long id = get_global_id(0), group = id / n_filters, filter = id % n_filters;
    if (group >= groups)
        return;
    __global TYPE *row = out + id * channels * n_taps;
    for (int c = 0; c < channels; ++c)
        for (int t = 0; t < n_taps; ++t)
            *row++ = w[((group * channels + c) * n_filters + filter) * filter_taps + taps[t].w];
}
