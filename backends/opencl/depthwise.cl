/* depthwise: y[n, m, p] = b[m] + sum over t of w[m, t] * x[n, m / multiplier, p * stride + offset[t]], strips of rows
 *
 * The input rows of a strip are first copied to local memory, padded: a product costs less than to fetch what it
 * multiplies, so that nothing is fetched twice from global memory.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DITEMS=1       work items a group; WIDTH is 1 where there are several, at least 4 where there are not
 *   -DSTRIDE_W=1|2  of the columns; any where there are several items
 *   -DTAPS=9        the number of taps, where it is to be unrolled
 * Arguments
 *   g        Strips, one, constant
 *   taps     int2[taps]: the offset in a strip, and where the filter holds the tap
 *   x        TYPE[batch][channels][in_h][in_w]
 *   w        TYPE[filters][taps]
 *   b        TYPE[filters]; unread where has_bias is 0
 *   y        TYPE[batch][filters][out_h][out_w], every element written
 *   strip    local, TYPE[high * pitch], and room for three vectors behind
 * Work size   planes * strips / share groups of ITEMS, rounded up, one dimension
 * Limits      two axes (one lifted to two); a strip of at least one row fits local memory; planes of fewer than 2^31
 *             elements
 */
typedef struct {
    long channels, filters, taps, has_bias;
    long in_h, in_w, out_h, out_w;
    long low_h, low_w, limit_h, limit_w; /* padding in front; the first place beyond that behind */
    long stride_h, rows, high, pitch;    /* output and input rows of a strip */
    long strips, mode, multiplier, planes;
    long share; /* strips of an item or group */
} Strips;

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void depthwise(
    __constant const Strips *restrict g,
    __global const int2 *restrict tap,
    __global const TYPE *restrict x,
    __global const TYPE *restrict w,
    __global const TYPE *restrict b,
    __global TYPE *restrict y,
    __local TYPE *restrict strip)
{
    const int lid = get_local_id(0), strips = g->strips, filters = g->filters;
    const int rows = g->rows, high = g->high, pitch = g->pitch, in_h = g->in_h, in_w = g->in_w;
    const int out_h = g->out_h, out_w = g->out_w, stride_h = g->stride_h, mode = g->mode;
    const int low_h = g->low_h, low_w = g->low_w;
    const long area = (long)in_h * in_w;
#ifdef TAPS
    const int taps = TAPS;
#else
    const int taps = g->taps;
#endif
#if ITEMS == 1
    /* [low, top): the elements of a row that lie inside the input, where no index is wrapped */
    const int low = low_w < 0 ? 0 : low_w < pitch ? low_w : pitch;
    const int top = in_w + low_w < low ? low : in_w + low_w < pitch ? in_w + low_w : pitch;
    const long room = g->planes / filters * g->channels * area - WIDTH;
    for (int i = 0; i < 3 * WIDTH; ++i) /* read behind the last row: multiplied, not stored */
        strip[high * pitch + i] = 0;
#endif
    const long begin_id = get_group_id(0) * g->share, end = min(begin_id + g->share, g->planes * strips);
    for (long id = begin_id; id < end; ++id) {
        const int plane = id / strips, at = id - (long)plane * strips; /* of the output */
        const int sample = plane / filters, m = plane - sample * filters;
        const int begin = at * rows, many = out_h - begin < rows ? out_h - begin : rows;
        const long channel = (sample * g->channels + m / (int)g->multiplier) * area;
        __local TYPE *row = strip;
        for (int h = 0; h < high; ++h, row += pitch) {
            const int place = begin * stride_h + h - low_h;
            const int i_h = place >= 0 && place < in_h ? place : (int)source_within(place, in_h, g->limit_h, mode);
            __global const TYPE *line = x + channel + (long)i_h * in_w - low_w;
#if ITEMS == 1
            /* What is copied beyond the row, the next one writes over: whole vectors, as long as x has so many elements. */
            const int a = i_h < 0 ? pitch : low, z = i_h < 0 ? pitch : top;
            if (channel + (long)i_h * in_w - low_w + z <= room)
                for (int i = a; i < z; i += WIDTH)
                    *(__local UNALIGNED *)(row + i) = LOAD(line + i);
            else
                for (int i = a; i < z; ++i)
                    row[i] = line[i];
            for (int i = 0; i < a; ++i) {
                const long k = i_h < 0 || mode == ZEROS ? -1 : source_within(i - low_w, in_w, g->limit_w, mode);
                row[i] = k < 0 ? 0 : line[k + low_w];
            }
            for (int i = z; i < pitch; ++i) {
                const long k = mode == ZEROS ? -1 : source_within(i - low_w, in_w, g->limit_w, mode);
                row[i] = k < 0 ? 0 : line[k + low_w];
            }
#else
            for (int i = lid; i < pitch; i += ITEMS) {
                const long k = i_h < 0 ? -1 : source_within(i - low_w, in_w, g->limit_w, mode);
                row[i] = k < 0 ? 0 : line[k + low_w];
            }
#endif
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        __global const TYPE *weights = w + (long)m * taps;
        const TYPE bias = g->has_bias ? b[m] : 0;
        __global TYPE *out = y + ((long)plane * out_h + begin) * out_w;
        const int pixels = many * out_w;
#if ITEMS == 1
#if STRIDE_W == 1
#define EACH_STRIDE(p) FETCH(p)
#else
#define EACH_STRIDE(p) EVEN(FETCH(p), FETCH((p) + WIDTH))
#endif
        /* What a row's last vector writes beyond it, the next row writes over; beyond the strip nothing is written. */
        for (int h = 0; h < many; ++h)
            for (int i = 0; i < out_w; i += WIDTH) {
                __local const TYPE *from = strip + h * stride_h * pitch + i * STRIDE_W;
                VECTOR sum = bias;
#ifdef TAPS
#pragma unroll
#endif
                for (int t = 0; t < taps; ++t)
                    sum += weights[tap[t].y] * EACH_STRIDE(from + tap[t].x);
                const int place = h * out_w + i;
                if (place + WIDTH <= pixels)
                    STORE(sum, out + place);
                else {
                    TYPE sums[WIDTH];
                    PUT(sum, sums);
                    for (int k = 0; k < out_w - i && k < WIDTH; ++k)
                        out[place + k] = sums[k];
                }
            }
#else
        for (int i = lid; i < pixels; i += ITEMS) {
            __local const TYPE *from = strip + i / out_w * stride_h * pitch + i % out_w * STRIDE_W;
            TYPE sum = bias;
            for (int t = 0; t < taps; ++t)
                sum += weights[tap[t].y] * from[tap[t].x];
            out[i] = sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
    }
}
