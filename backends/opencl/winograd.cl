/* The transforms of Winograd's F(M, 3) in two dimensions; the products are those of blocked.cl, a group a frequency.
 *
 * The input is stored by the residues of M in both axes (pack.cl), so that element (i, j) of neighbouring tiles stands
 * at neighbouring places: tiles are counted in the pitch of the stored rows, one more than there are in a row, and
 * what is computed for the one too many is left out when it is stored.
 *
 * Arguments, Work size, Limits: with each kernel.
 * Build options, besides those of common.cl and vectors.cl
 *   -DM=2|4 -DWIDTH=16                outputs of a tile, an axis; elements of a vector
 * B_T, G_ and A_T (o, p, s, a, i, t) come in front, generated from the interpolation points: they multiply by B^T, G and
 * A^T the elements a[i], a[i + t], a[i + 2 t], ... and give o[p], o[p + s], ...; EVERY9 comes with them.
 */
#define N (M + 2)
/* From one frequency to the next: an even number of cache lines apart they would share a cache's sets. */
#define APART(elements) (((elements) + 31) / 32 * 32 + 16)

/* wino_input: v[f][c][t] = (B^T d B)[f], f the N x N frequencies, for `vectors` * WIDTH tiles from `first` on
 *
 * Arguments
 *   x         TYPE[channels][x_channel], as pack.cl stores it, and room for a vector behind
 *   v         TYPE[N * N][channels][vectors * WIDTH], frequencies APART
 *   channels, x_channel, pitch, phase   elements of a stored channel, of a row of a residue, of a residue
 *   vectors, first
 * Work size   channels * vectors, one dimension, rounded up
 * Limits      none of its own
 */
__kernel void wino_input(
    __global const TYPE *restrict x,
    __global TYPE *restrict v,
    const int channels,
    const int x_channel,
    const int pitch,
    const int phase,
    const int vectors,
    const long first)
{
    const int id = get_global_id(0), c = id / vectors, at = id % vectors * WIDTH;
    if (c >= channels)
        return;
    __global const TYPE *from = x + (long)c * x_channel + first + at;
    VECTOR d[N * N], e[N * N];
    for (int i = 0; i < N; ++i)
        for (int j = 0; j < N; ++j)
            d[i * N + j] = LOAD(from + (i % M * M + j % M) * phase + i / M * pitch + j / M);
    for (int j = 0; j < N; ++j) {
        B_T(e, j, N, d, j, N);
    }
    for (int i = 0; i < N; ++i) {
        B_T(d, i * N, 1, e, i * N, 1);
    }
    __global TYPE *to = v + (long)c * vectors * WIDTH + at;
    const long step = APART((long)channels * vectors * WIDTH);
    for (int f = 0; f < N * N; ++f)
        STORE(d[f], to + f * step);
}

/* wino_gather: the same from x as it is given, for images of few tiles: a plane is padded in local memory
 *
 * Arguments
 *   x         TYPE[batch][channels][in_h][in_w], from x_offset on
 *   v         TYPE[N * N][channels][vectors * WIDTH], frequencies APART; all tiles of a sample
 *   plane     local, TYPE[(high * M + 2) * pitch], pitch = wide * M + 2
 *   channels, in_h, in_w, low_h, low_w, limit_h, limit_w, mode   as in pack.cl; low: what precedes the first element
 *   high, wide, vectors    tiles of a column and of a row, vectors of tiles
 * Work size   channels groups of one item, one dimension
 * Limits      a plane fits local memory
 */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void wino_gather(
    __global const TYPE *restrict x,
    __global TYPE *restrict v,
    __local TYPE *restrict plane,
    const int channels,
    const int in_h,
    const int in_w,
    const int low_h,
    const int low_w,
    const int limit_h,
    const int limit_w,
    const int mode,
    const int high,
    const int wide,
    const int vectors,
    const long x_offset)
{
    const int c = get_group_id(0), pitch = wide * M + 2, rows = high * M + 2;
    __global const TYPE *from = x + x_offset + (long)c * in_h * in_w;
    for (int h = 0; h < rows; ++h) {
        const long i_h = source_within(h - low_h, in_h, limit_h, mode);
        __local TYPE *row = plane + h * pitch;
        for (int w = 0; w < pitch; ++w)
            row[w] = 0;
        if (i_h < 0)
            continue;
        __global const TYPE *line = from + i_h * in_w;
        /* what is cropped counts as beyond: it would take part in the transforms, and leave rounding errors */
        const int wide_w = limit_w < in_w ? limit_w : in_w, a = low_w < 0 ? 0 : low_w < pitch ? low_w : pitch;
        const int z = wide_w + low_w < pitch ? wide_w + low_w : pitch;
        for (int w = a; w < z; ++w)
            row[w] = line[w - low_w];
        if (mode != ZEROS)
            for (int w = 0; w < pitch; ++w) {
                const long i_w = source_within(w - low_w, in_w, limit_w, mode);
                row[w] = i_w < 0 ? 0 : line[i_w];
            }
    }
    const long step = APART((long)channels * vectors * WIDTH);
    for (int at = 0; at < vectors * WIDTH; at += WIDTH) {
        int place[WIDTH]; /* the last tile again where there are no more: computed, not stored */
        for (int l = 0; l < WIDTH; ++l) {
            const int tile = at + l < high * wide ? at + l : high * wide - 1;
            place[l] = tile / wide * M * pitch + tile % wide * M;
        }
        VECTOR d[N * N], e[N * N];
        for (int i = 0; i < N; ++i)
            for (int j = 0; j < N; ++j) {
                TYPE lanes[WIDTH];
                for (int l = 0; l < WIDTH; ++l)
                    lanes[l] = plane[place[l] + i * pitch + j];
                d[i * N + j] = GET(lanes);
            }
        for (int j = 0; j < N; ++j) {
            B_T(e, j, N, d, j, N);
        }
        for (int i = 0; i < N; ++i) {
            B_T(d, i * N, 1, e, i * N, 1);
        }
        __global TYPE *to = v + (long)c * vectors * WIDTH + at;
        for (int f = 0; f < N * N; ++f)
            STORE(d[f], to + f * step);
    }
}

/* wino_filter: u[f][m][c] = (G g G^T)[f] of the filters `first` to `first` + `count`
 *
 * Arguments
 *   w         TYPE[filters][channels][3][3]; read back to front where flip is set
 *   u         TYPE[N * N][count][channels], frequencies APART
 *   first, count, channels, flip
 * Work size   one item a filter, one dimension, rounded up
 * Limits      none of its own
 */
#define FILTERS(T, load, store, step)                                              \
    for (; c + step <= channels; c += step) {                                      \
        T g[9], h[3 * N], k[N * N];                                                \
        load(g, from + c * 9);                                                     \
        if (flip)                                                                  \
            for (int i = 0; i < 4; ++i) {                                          \
                const T other = g[i];                                              \
                g[i] = g[8 - i];                                                   \
                g[8 - i] = other;                                                  \
            }                                                                      \
        for (int j = 0; j < 3; ++j) {                                              \
            G_(h, j, 3, g, j, 3);                                                  \
        }                                                                          \
        for (int i = 0; i < N; ++i) {                                              \
            G_(k, i * N, 1, h, i * 3, 1);                                          \
        }                                                                          \
        for (int f = 0; f < N * N; ++f)                                            \
            store(k[f], to + f * pitch + c);                                       \
    }
#define EACH9(v, p, element)       \
    for (int i = 0; i < 9; ++i) {  \
        __global const TYPE *q = p + i; \
        v[i] = element;            \
    }
#define EVERY9_1(v, p) EACH9(v, p, *q)
#define EVERY9_4(v, p) EACH9(v, p, (CAT(TYPE, 4))(q[0], q[9], q[18], q[27]))
#define EVERY9_8(v, p) EACH9(v, p, (CAT(TYPE, 8))(q[0], q[9], q[18], q[27], q[36], q[45], q[54], q[63]))
#ifdef __clang__
#define EVERY9_16(v, p) EVERY9(v, p)
#else
#define EVERY9_16(v, p)                                                                                              \
    EACH9(v, p, (CAT(TYPE, 16))(q[0], q[9], q[18], q[27], q[36], q[45], q[54], q[63], q[72], q[81], q[90], q[99], \
        q[108], q[117], q[126], q[135]))
#endif
#define STORE_1(v, p) *(p) = v

__kernel void wino_filter(
    __global const TYPE *restrict w,
    __global TYPE *restrict u,
    const int first,
    const int count,
    const int channels,
    const int flip)
{
    const int m = get_global_id(0);
    if (m >= count)
        return;
    __global const TYPE *from = w + (long)(first + m) * channels * 9;
    __global TYPE *to = u + (long)m * channels;
    const long pitch = APART((long)count * channels);
    int c = 0;
#if WIDTH > 1
    FILTERS(VECTOR, CAT(EVERY9_, WIDTH), STORE, WIDTH)
#endif
    FILTERS(TYPE, EVERY9_1, STORE_1, 1)
}

/* wino_output: y = A^T m A of each tile, plus the bias
 *
 * Arguments
 *   m         TYPE[N * N][count][vectors * WIDTH], frequencies APART
 *   b         TYPE[out_channels]; unread where has_bias is 0
 *   y         TYPE[out_channels][out_h][out_w], of one sample at y_offset; the tiles' elements are written
 *   count, vectors, first, pitch       tiles from `first` on, rows of `pitch` of them
 *   channel   of the first filter;  has_bias, out_h, out_w, y_offset
 * Work size   count * vectors, one dimension, rounded up
 * Limits      none of its own
 */
__kernel void wino_output(
    __global const TYPE *restrict m,
    __global const TYPE *restrict b,
    __global TYPE *restrict y,
    const int count,
    const int vectors,
    const int first,
    const int pitch,
    const int channel,
    const int has_bias,
    const int out_h,
    const int out_w,
    const long y_offset)
{
    const int id = get_global_id(0), k = id / vectors, at = id % vectors * WIDTH;
    if (k >= count)
        return;
    __global const TYPE *from = m + (long)k * vectors * WIDTH + at;
    const long step = APART((long)count * vectors * WIDTH);
    VECTOR p[N * N], q[M * N], r[M * M];
    for (int f = 0; f < N * N; ++f)
        p[f] = LOAD(from + f * step);
    for (int j = 0; j < N; ++j) {
        A_T(q, j, N, p, j, N);
    }
    for (int i = 0; i < M; ++i) {
        A_T(r, i * M, 1, q, i * N, 1);
    }
    const TYPE bias = has_bias ? b[channel + k] : 0;
    TYPE rows[M][WIDTH * M];
    for (int i = 0; i < M; ++i) {
        TYPE lanes[M][WIDTH];
        for (int j = 0; j < M; ++j)
            PUT(r[i * M + j] + bias, lanes[j]);
        for (int l = 0; l < WIDTH; ++l)
            for (int j = 0; j < M; ++j)
                rows[i][l * M + j] = lanes[j][l];
    }
    __global TYPE *to = y + y_offset + (long)(channel + k) * out_h * out_w;
    const int across = (out_w + M - 1) / M;
    int tile_h = (first + at) / pitch, tile_w = (first + at) % pitch;
    for (int l = 0; l < WIDTH && tile_h * M < out_h;) {
        const int run = min(across - tile_w, WIDTH - l); /* none where the tile is the one too many */
        const int high = min(M, out_h - tile_h * M), wide = min(run * M, out_w - tile_w * M);
        for (int i = 0; i < high; ++i) {
            __global TYPE *out = to + (long)(tile_h * M + i) * out_w + tile_w * M;
            for (int j = 0; j < wide; ++j)
                out[j] = rows[i][l * M + j];
        }
        l += run + pitch - across;
        tile_w = 0;
        ++tile_h;
    }
}
