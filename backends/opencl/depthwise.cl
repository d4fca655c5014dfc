/* depthwise: y[n, m, p] = b[m] + sum over t of w[m, t] * x[n, m / multiplier, p + offset[t]], a strip of rows an item or group
 *
 * The strip's input is first stored in local memory, padded and by the residues of the stride, as pack.cl stores whole
 * channels: a product costs less than to fetch what it multiplies, so that nothing is fetched twice from global memory.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DITEMS=1     work items a group; WIDTH is 1 where there are several
 *   -DTAPS=9      the number of taps, where it is to be unrolled
 * Arguments
 *   g        Strips, one, constant
 *   numbers  int[count[0] + count[1] + taps]: the residues of rows and columns, then each tap's offset in a stored strip
 *   filter   int[taps]: where the filter holds the tap
 *   x        TYPE[batch][channels][in_h][in_w]
 *   w        TYPE[filters][taps]
 *   b        TYPE[filters]; unread where has_bias is 0
 *   y        TYPE[batch][filters][out_h][out_w], every element written
 *   strip    local, TYPE[count[0] * count[1] * (rows + reach) * pitch], and a vector's room behind
 * Work size   planes * strips / share groups of ITEMS, rounded up, one dimension
 * Limits      two axes (one lifted to two); a strip of at least one row fits local memory; planes of fewer than 2^31 elements
 */
typedef struct {
    long channels, filters, taps, has_bias;
    long in_h, in_w, out_h, out_w;
    long first_h, first_w, stride_h, stride_w;
    long count_h, count_w, rows, high; /* output rows of a strip; stored rows of a residue */
    long pitch, strips, mode, multiplier;
    long limit_h, limit_w;
    long planes, share; /* planes of the output; strips of an item or group */
} Strips;

#if ITEMS == 1
/* Every STRIDEth of the elements from `from` on, `count` of them; what is read and written beyond is at most a vector. */
inline void copy_row(__local TYPE *to, __global const TYPE *from, const int count, const int stride)
{
#if WIDTH > 1
    if (stride == 1) {
        for (int i = 0; i < count; i += WIDTH)
            *(__local UNALIGNED *)(to + i) = LOAD(from + i);
        return;
    }
    if (stride == 2) {
        for (int i = 0; i < count; i += WIDTH)
            *(__local UNALIGNED *)(to + i) = (VECTOR)(LOAD(from + 2 * i).even, LOAD(from + 2 * i + WIDTH).even);
        return;
    }
#endif
    for (int i = 0; i < count; ++i)
        to[i] = from[i * stride];
}
#endif

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void depthwise(
    __constant const Strips *restrict g,
    __global const int *restrict numbers,
    __global const int *restrict filter,
    __global const TYPE *restrict x,
    __global const TYPE *restrict w,
    __global const TYPE *restrict b,
    __global TYPE *restrict y,
    __local TYPE *restrict strip)
{
    const int lid = get_local_id(0), strips = g->strips, filters = g->filters;
    const int rows = g->rows, high = g->high, pitch = g->pitch, in_h = g->in_h, in_w = g->in_w;
    const int out_h = g->out_h, out_w = g->out_w, stride_h = g->stride_h, stride_w = g->stride_w;
    const int first_h = g->first_h, first_w = g->first_w;
    const int mode = g->mode, count_h = g->count_h, count_w = g->count_w;
    const long area = (long)in_h * in_w, room = g->planes / filters * g->channels * area - 2 * WIDTH;
#ifndef TAPS
    const int taps = g->taps;
#else
    const int taps = TAPS;
#endif
    __global const int *offset = numbers + count_h + count_w;
    const long begin_id = get_group_id(0) * g->share, end = min(begin_id + g->share, g->planes * strips);
    for (long id = begin_id; id < end; ++id) {
        const int plane = id / strips, at = id - (long)plane * strips; /* of the output */
        const int sample = plane / filters, m = plane - sample * filters;
        const int begin = at * rows, many = min(rows, out_h - begin);
        const long channel = (sample * g->channels + m / (int)g->multiplier) * area;
        /* Row after row as they stand in memory: what a copy writes beyond its row is written over by the next. */
        for (int phase = 0; phase < count_h * count_w; ++phase) {
            const int residue_h = numbers[phase / count_w], from = first_w + numbers[count_h + phase % count_w];
            __local TYPE *row = strip + phase * high * pitch;
#if ITEMS == 1
            /* [low, top): the elements of a row that lie inside the input, where no index is wrapped */
            const int before = from < 0 ? (-from + stride_w - 1) / stride_w : 0;
            const int inside = from < in_w ? (in_w - from + stride_w - 1) / stride_w : 0;
            const int low = before < pitch ? before : pitch, top = inside < low ? low : inside < pitch ? inside : pitch;
#endif
            for (int h = 0; h < high; ++h, row += pitch) {
                const int place = (begin + h) * stride_h + first_h + residue_h;
                const int i_h = place >= 0 && place < in_h ? place : (int)source_within(place, in_h, g->limit_h, mode);
                __global const TYPE *line = x + channel + i_h * in_w + from;
#if ITEMS == 1
                const int a = i_h < 0 ? pitch : low, z = i_h < 0 ? pitch : top;
                if (channel + i_h * in_w + from + z * stride_w <= room)
                    copy_row(row + a, line + a * stride_w, z - a, stride_w);
                else
                    for (int i = a; i < z; ++i)
                        row[i] = line[i * stride_w];
                for (int i = 0; i < a; ++i) {
                    const long k = i_h < 0 || mode == ZEROS ? -1 : source_within(i * stride_w + from, in_w, g->limit_w, mode);
                    row[i] = k < 0 ? 0 : line[k - from];
                }
                for (int i = z; i < pitch; ++i) {
                    const long k = mode == ZEROS ? -1 : source_within((long)i * stride_w + from, in_w, g->limit_w, mode);
                    row[i] = k < 0 ? 0 : line[k - from];
                }
#else
                for (int i = lid; i < pitch; i += ITEMS) {
                    const long k = i_h < 0 ? -1 : source_within((long)i * stride_w + from, in_w, g->limit_w, mode);
                    row[i] = k < 0 ? 0 : line[k - from];
                }
#endif
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        __global const TYPE *weights = w + (long)m * taps;
        const TYPE bias = g->has_bias ? b[m] : 0;
        __global TYPE *out = y + ((long)plane * out_h + begin) * out_w;
        const int pixels = many * out_w;
#if ITEMS == 1
        /* What a row's last vector writes beyond it, the next row overwrites; beyond the strip nothing is written. */
        for (int h = 0; h < many; ++h)
            for (int i = 0; i < out_w; i += WIDTH) {
                __local const TYPE *from = strip + h * pitch + i;
                VECTOR sum = bias;
#ifdef TAPS
#pragma unroll
#endif
                for (int t = 0; t < taps; ++t)
                    sum += weights[filter[t]] * FETCH(from + offset[t]);
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
            __local const TYPE *from = strip + i / out_w * pitch + i % out_w;
            TYPE sum = bias;
            for (int t = 0; t < taps; ++t)
                sum += weights[filter[t]] * from[offset[t]];
            out[i] = sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
    }
}
