/* blocked: register tiles of BLOCK output channels (no more than a group has) x VECTORS vectors of WIDTH neighbouring outputs
 *
 *   y[n, m, p] = b[m] + sum over c, t of w[m, c, filter[t]] * x[n, first(m)+c, p + offset[t]]
 *
 * backends/opencl/windows.py stores x so that a tap is one offset whatever the padding, stride and dilation. Each
 * weight is read once and multiplies a whole row of the tile. On a processor a work item is a group of its own and
 * WIDTH is that of its vectors; on a GPU WIDTH is 1 and neighbouring items take neighbouring outputs.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DBLOCK=8 -DVECTORS=3 -DWIDTH=16   the tile; WIDTH is 1, 2, 4, 8 or 16
 *   -DITEMS=1                          work items a group: lanes of a tile
 *   -DTAPS=9                           the number of taps, where it is to be unrolled
 * Arguments
 *   plan     Plan, one, constant
 *   taps     int2[taps]: offsets in a stored channel of x, and in a filter of w
 *   x        TYPE[batch][groups][plan.x_group], channels of plan.x_channel, and WIDTH elements beyond unless pixels >= WIDTH
 *   w        TYPE, at plan.w_out and plan.w_in elements from one output or input channel to the next
 *   b        TYPE[out_channels]; one element, unread, where has_bias is 0
 *   y        TYPE[batch][groups][plan.y_group], channels of out_size; the elements of the plan's part are written
 * Work size   tiles * blocks groups of ITEMS; groups of channels; batch
 * Limits      fewer than 2^32 tiles * blocks, a channel of fewer than 2^31 stored elements; 64-bit offsets between channels
 */
typedef struct {
    long batch, groups, channels, filters; /* channels and filters of one group */
    long taps, pixels, tiles, blocks;      /* blocks of one group's filters */
    long chunk, has_bias, x_channel, w_out;
    long w_in, w_group, rows, pitch;       /* rows of a stored plane, elements of a row */
    long x_group, y_group;                 /* from one group to the next, of one sample and all */
    long row_tiles;                        /* of each row, where no tile goes on in the next one; else 0 */
    long size[3], first[3], step[3], out_size[3];
} Plan;

#define SPAN (WIDTH * ITEMS)

/* LLVM would read all of a tap's weights before it multiplies by the first, and have too few registers for it: an
 * empty instruction makes the place of the next weight seem to depend on the last product. */
#if defined(__clang__) && defined(__AVX512F__) && WIDTH == 16
#define IN_ORDER(place, sum) __asm__("" : "+r"(place), "+v"(sum));
#else
#define IN_ORDER(place, sum)
#endif

#define ROWS(X, n) CAT(ROWS_, BLOCK)(X, n)
#define COLUMNS(X, i, n) CAT(COLUMNS_, n)(X, i)

#define BEGIN_ONE(i, j) VECTOR acc##i##_##j = bias##i;
#define BEGIN(i, n)                                                 \
    const TYPE bias##i = has_bias ? b[out_channel + i] : 0;         \
    COLUMNS(BEGIN_ONE, i, n)
#define READ(i, j) const VECTOR v##j = LOAD(xt + start[j]);
#define MULTIPLY_ONE(i, j) acc##i##_##j += f##i * v##j;
#define ORDER_ONE(i, j) IN_ORDER(at_w, acc##i##_##j)
#define MULTIPLY(i, n)                                              \
    const TYPE f##i = w##i[at_w];                                   \
    COLUMNS(MULTIPLY_ONE, i, n)                                     \
    COLUMNS(ORDER_ONE, i, n)
#define WRITE_ONE(i, j) STORE(acc##i##_##j, out + start[j]);
#define WRITE(i, n)                                                 \
    {                                                               \
        __global TYPE *out = base + i * volume;                     \
        COLUMNS(WRITE_ONE, i, n)                                    \
    }
#define KEEP_ONE(i, j) PUT(acc##i##_##j, tile + (i * VECTORS + j) * WIDTH);
#define KEEP(i, n) COLUMNS(KEEP_ONE, i, n)
#define FILTER(i, n) __global const TYPE *w##i = wc + i * w_out;

#ifdef TAPS
#define EACH_TAP _Pragma("unroll") for (int t = 0; t < TAPS; ++t)
#else
#define EACH_TAP for (int t = 0; t < n_taps; ++t)
#endif
/* The sum over channels and taps of a tile with `n` vectors, written where the tile is whole, else left in `tile`. */
#define SUM(n)                                                      \
    {                                                               \
        ROWS(BEGIN, n)                                              \
        ROWS(FILTER, n)                                             \
        long from_w = 0;                                            \
        for (int c = 0; c < channels; ++c, xc += x_channel, from_w += w_in) \
            EACH_TAP                                                \
            {                                                       \
                __global const TYPE *xt = xc + taps[t].x;           \
                long at_w = from_w + taps[t].y;               \
                COLUMNS(READ, 0, n)                                 \
                ROWS(MULTIPLY, n)                                   \
            }                                                       \
        if (whole) {                                                \
            ROWS(WRITE, n)                                          \
            return;                                                 \
        }                                                           \
        ROWS(KEEP, n)                                               \
    }

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void blocked(
    __constant const Plan *restrict g,
    __global const int2 *restrict taps,
    __global const TYPE *restrict x,
    __global const TYPE *restrict w,
    __global const TYPE *restrict b,
    __global TYPE *restrict y)
{
    const uint tiles = g->tiles, blocks = g->blocks;
    const int channels = g->channels, filters = g->filters;
    const int pixels = g->pixels, n_taps = g->taps;
    const long x_channel = g->x_channel, w_in = g->w_in;
    /* A chunk of tiles for all blocks, then the next chunk: its input stays in the cache, and so do a block's filters. */
    const uint id = get_group_id(0), chunk = g->chunk;
    const uint chunk_begin = id / (chunk * blocks) * chunk, in_chunk = min(chunk, tiles - chunk_begin);
    const uint rest = id - chunk_begin * blocks, block = rest / in_chunk;
    uint at = chunk_begin + rest - block * in_chunk;
    const long group = get_group_id(1), sample = get_group_id(2);
    /* The last block begins earlier where it would not be full, and the filters in front are not stored again. */
    const int first = min((int)block * BLOCK, filters - BLOCK), again = (int)block * BLOCK - first;
    const long out_channel = group * filters + first, w_out = g->w_out;
    const bool has_bias = g->has_bias;
    __global const TYPE *xc = x + (sample * g->groups + group) * g->x_group;
    __global const TYPE *wc = w + group * g->w_group + first * w_out;
    const int pitch = g->pitch, rows = g->rows, row_tiles = g->row_tiles;
    const int size_h = g->size[1], size_w = g->size[2], step_w = g->step[2];
    const long out_h = g->out_size[1], out_w = g->out_size[2], volume = g->out_size[0] * out_h * out_w;
    __global TYPE *base = y + (sample * g->groups + group) * g->y_group + first * volume;
    if (row_tiles) {
        const uint row = at / row_tiles, plane = row / (uint)size_h;
        at -= row * row_tiles;
        xc += ((long)plane * rows + row - plane * size_h) * pitch;
        base += row * out_w;
    }
    /* A vector that would end beyond the last output begins earlier, and the lanes in front are not stored again. */
    const int origin = (int)at * (VECTORS * SPAN) + (int)get_local_id(0) * WIDTH;
    const int last = max(0, pixels - WIDTH);
    int start[VECTORS];
    for (int j = 0; j < VECTORS; ++j)
        start[j] = min(origin + j * SPAN, last);
    const int wanted = min(VECTORS, (pixels - (int)at * (VECTORS * SPAN) + SPAN - 1) / SPAN);
    const bool plain = row_tiles || pitch == out_w && (rows == out_h || g->size[0] == 1) && step_w == 1 && g->step[1] == 1 && g->step[0] == 1;
    /* Where one tile is a whole row, what its last vector computes again it also stores again. */
    const bool whole = plain && again == 0 && (row_tiles == 1 ? pixels >= WIDTH : origin + (wanted - 1) * SPAN + WIDTH <= pixels);
    TYPE tile[BLOCK * VECTORS * WIDTH];
    switch (wanted) {
    case VECTORS:
        SUM(VECTORS)
        break;
#if VECTORS > 1
    case 1:
        SUM(1)
        break;
#endif
#if VECTORS > 2
    case 2:
        SUM(2)
        break;
#endif
#if VECTORS > 3
    case 3:
        SUM(3)
        break;
#endif
#if VECTORS > 4
    case 4:
        SUM(4)
        break;
#endif
#if VECTORS > 5
    case 5:
        SUM(5)
        break;
#endif
#if VECTORS > 6
    case 6:
        SUM(6)
        break;
#endif
#if VECTORS > 7
    case 7:
        SUM(7)
        break;
#endif
    }
    for (int j = 0; j < wanted; ++j) {
        const int from = origin + j * SPAN;
        if (from >= pixels)
            break;
        int lane = from - start[j];
        if (plain) {
            for (int i = again; i < BLOCK; ++i) {
                __global TYPE *out = base + i * volume + start[j];
                const TYPE *got = tile + (i * VECTORS + j) * WIDTH;
                if (lane == 0 && from + WIDTH <= pixels)
                    STORE(GET(got), out);
                else
                    for (int l = lane; l < WIDTH && start[j] + l < pixels; ++l)
                        out[l] = got[l];
            }
            continue;
        }
        int w_at = from % pitch, h_at = from / pitch % rows, d_at = from / pitch / rows;
        const int end = min(WIDTH, pixels - start[j]);
        while (lane < end) {
            if (w_at >= size_w || h_at >= size_h) { /* between the rows, or the planes */
                lane += pitch - w_at;
                w_at = 0;
            } else {
                const int run = min(size_w - w_at, end - lane);
                __global TYPE *out = base + ((d_at * g->step[0] + g->first[0]) * out_h + h_at * g->step[1] + g->first[1]) * out_w
                    + w_at * step_w + g->first[2];
                for (int i = again; i < BLOCK; ++i) {
                    const TYPE *got = tile + (i * VECTORS + j) * WIDTH + lane;
                    if (WIDTH > 1 && run == WIDTH && step_w == 1)
                        STORE(GET(got), out + i * volume);
                    else
                        for (int l = 0; l < run; ++l)
                            out[i * volume + l * step_w] = got[l];
                }
                lane += run;
                w_at += run;
                if (w_at < pitch)
                    continue;
                w_at = 0;
            }
            if (++h_at == rows) {
                h_at = 0;
                ++d_at;
            }
        }
    }
}
