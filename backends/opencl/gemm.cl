/* gemm: filters times a patch matrix, y[m, p] = b[m] + sum over k of a[m, k] * B[k, p]
 *
 * B is a chunk of im2col.cl's matrices. Two shapes of the same product: on a processor an item is a group of its own
 * and keeps ROWS x COLUMNS vectors in registers, the caches hold the rest; with -DLOCAL_TILES a group of
 * ITEMS_M x ITEMS_N items goes through DEPTH rows at a time, staged in local memory, each item with
 * ROWS x COLUMNS sums in registers, its columns ITEMS_N apart so that neighbours read and store neighbours.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DROWS=8 -DCOLUMNS=3               the register tile of an item, each 1 to 8
 *   -DWIDTH=16                         elements of a vector; 1 with -DLOCAL_TILES
 *   -DLOCAL_TILES -DITEMS_M=8 -DITEMS_N=16 -DDEPTH=16
 * Arguments
 *   g        Product, one, constant
 *   a        TYPE[groups][filters][rows of all channels]
 *   patches  TYPE[matrices of the chunk][panels][rows of the chunk][PANEL], PANEL = COLUMNS * WIDTH or COLUMNS * ITEMS_N
 *   b        TYPE[groups][filters]; one element, unread, where has_bias is 0
 *   y        TYPE[matrices][filters][out_size...]; the columns of the chunk are written, or added to unless first_row is 0
 *   first_*, chunk_*  the chunk: matrices, panels, rows
 * Work size   chunk_matrices * blocks of filters * chunk_panels groups, one dimension
 * Limits      rows and columns of a matrix of fewer than 2^31; without LOCAL_TILES no fewer than ROWS filters
 */
typedef struct {
    long groups, filters, rows, has_bias;
    long size[3], first[3], step[3], out_size[3]; /* the matrix's columns as part of the output */
} Product;

#define EACH_ROW(X, n) CAT(ROWS_, ROWS)(X, n)
#define EACH_COLUMN(X, i, n) CAT(COLUMNS_, n)(X, i)

/* Where a column's output stands in its channel. */
inline long place_of_column(long p, __constant const Product *g)
{
    const long w = p % g->size[2], h = p / g->size[2] % g->size[1], d = p / g->size[2] / g->size[1];
    return ((d * g->step[0] + g->first[0]) * g->out_size[1] + h * g->step[1] + g->first[1]) * g->out_size[2]
        + w * g->step[2] + g->first[2];
}

#define BEGIN_ONE(i, j) VECTOR acc##i##_##j = bias##i;
#define MULTIPLY_ONE(i, j) acc##i##_##j += f##i * v##j;

#ifdef LOCAL_TILES
#define PANEL (COLUMNS * ITEMS_N)
#define BLOCK (ROWS * ITEMS_M)
#define ITEMS (ITEMS_M * ITEMS_N)
#define PITCH (BLOCK + 1) /* odd: a column of the tile is spread over the banks of local memory */

#define BEGIN(i, n)                                                                     \
    const TYPE bias##i = biased && row + i < filters ? b[channel + row + i] : 0;        \
    EACH_COLUMN(BEGIN_ONE, i, n)
#define READ_ROW(i, n) const TYPE f##i = a_tile[k * PITCH + lane_m * ROWS + i];
#define READ_COLUMN(i, j) const TYPE v##j = b_tile[k * PANEL + j * ITEMS_N + lane_n];
#define MULTIPLY(i, n) EACH_COLUMN(MULTIPLY_ONE, i, n)
#define PLACE(i, j)                                                                     \
    const long p##j = from + j * ITEMS_N + lane_n;                                      \
    const bool inside##j = p##j < pixels;                                               \
    const long place##j = inside##j ? place_of_column(p##j, g) : 0;
#define KEEP_ONE(i, j)                                                                  \
    if (inside##j && row + i < filters)                                                 \
        out[i * volume + place##j] = first_row ? out[i * volume + place##j] + acc##i##_##j : acc##i##_##j;
#define KEEP(i, n) EACH_COLUMN(KEEP_ONE, i, n)

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void gemm(
    __constant const Product *restrict g,
    __global const TYPE *restrict a,
    __global const TYPE *restrict patches,
    __global const TYPE *restrict b,
    __global TYPE *restrict y,
    const int first_matrix,
    const int first_panel,
    const int first_row,
    const int chunk_panels,
    const int chunk_rows)
{
    __local TYPE a_tile[DEPTH * PITCH], b_tile[DEPTH * PANEL];
    const int filters = g->filters, blocks = (filters + BLOCK - 1) / BLOCK;
    const int item = get_local_id(0), lane_n = item % ITEMS_N, lane_m = item / ITEMS_N;
    long id = get_group_id(0);
    const int panel = id % chunk_panels;
    id /= chunk_panels;
    const int block = id % blocks;
    const long matrix = id / blocks, channel = (first_matrix + matrix) % g->groups * filters;
    const int row = block * BLOCK + lane_m * ROWS, left = filters - block * BLOCK;
    const bool biased = g->has_bias && first_row == 0;
    __global const TYPE *block_a = a + (channel + block * BLOCK) * g->rows + first_row;
    __global const TYPE *panel_b = patches + (matrix * chunk_panels + panel) * chunk_rows * PANEL;
    EACH_ROW(BEGIN, COLUMNS)
    for (int done = 0; done < chunk_rows; done += DEPTH) {
        const int deep = chunk_rows - done < DEPTH ? chunk_rows - done : DEPTH;
        /* zeros beyond the last row and filter, so that what multiplies them knows no tails */
        for (int e = item; e < BLOCK * DEPTH; e += ITEMS) {
            const int m = e / DEPTH, k = e % DEPTH;
            a_tile[k * PITCH + m] = m < left && k < deep ? block_a[m * g->rows + done + k] : 0;
        }
        for (int e = item; e < DEPTH * PANEL; e += ITEMS)
            b_tile[e] = e < deep * PANEL ? panel_b[(long)done * PANEL + e] : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < DEPTH; ++k) {
            EACH_ROW(READ_ROW, 0)
            EACH_COLUMN(READ_COLUMN, 0, COLUMNS)
            EACH_ROW(MULTIPLY, COLUMNS)
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const long pixels = g->size[0] * g->size[1] * g->size[2], from = ((long)first_panel + panel) * PANEL;
    const long volume = g->out_size[0] * g->out_size[1] * g->out_size[2];
    __global TYPE *out = y + ((first_matrix + matrix) * filters + row) * volume;
    EACH_COLUMN(PLACE, 0, COLUMNS)
    EACH_ROW(KEEP, COLUMNS)
}

#else
#define PANEL (COLUMNS * WIDTH)

/* LLVM would read all of a row's filters before it multiplies by the first, and have too few registers for it: an
 * empty instruction makes the place of the next one seem to depend on the last product. */
#if defined(__clang__) && defined(__AVX512F__) && WIDTH == 16
#define IN_ORDER(place, sum) __asm__("" : "+r"(place), "+v"(sum));
#else
#define IN_ORDER(place, sum)
#endif

#define BEGIN(i, n)                                                                     \
    const TYPE bias##i = biased ? b[channel + i] : 0;                                   \
    EACH_COLUMN(BEGIN_ONE, i, n)
#define FILTER(i, n) __global const TYPE *a##i = block_a + i * g->rows;
#define READ(i, j) const VECTOR v##j = LOAD(panel_b + k * PANEL + j * WIDTH);
#define ORDER_ONE(i, j) IN_ORDER(at, acc##i##_##j)
#define MULTIPLY(i, n)                                                                  \
    const TYPE f##i = a##i[at];                                                         \
    EACH_COLUMN(MULTIPLY_ONE, i, n)                                                     \
    EACH_COLUMN(ORDER_ONE, i, n)
#define KEEP_ONE(i, j) PUT(acc##i##_##j, tile + (i * COLUMNS + j) * WIDTH);
#define KEEP(i, n) EACH_COLUMN(KEEP_ONE, i, n)
/* The product of a tile with `n` vectors, left in `tile`. */
#define PRODUCT(n)                                                                      \
    {                                                                                   \
        EACH_ROW(BEGIN, n)                                                              \
        EACH_ROW(FILTER, n)                                                             \
        for (long k = 0; k < chunk_rows; ++k) {                                         \
            long at = k;                                                                \
            EACH_COLUMN(READ, 0, n)                                                     \
            EACH_ROW(MULTIPLY, n)                                                       \
        }                                                                               \
        EACH_ROW(KEEP, n)                                                               \
    }

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(
    __constant const Product *restrict g,
    __global const TYPE *restrict a,
    __global const TYPE *restrict patches,
    __global const TYPE *restrict b,
    __global TYPE *restrict y,
    const int first_matrix,
    const int first_panel,
    const int first_row,
    const int chunk_panels,
    const int chunk_rows)
{
    const int filters = g->filters, blocks = (filters + ROWS - 1) / ROWS;
    long id = get_group_id(0);
    /* panels inside, filters outside: a block's filters stay in the nearest cache, the chunk in the next */
    const int panel = id % chunk_panels;
    id /= chunk_panels;
    const int block = id % blocks;
    const long matrix = id / blocks;
    /* The last block begins earlier where it would not be full, and the filters in front are not stored again. */
    const int row = block * ROWS < filters - ROWS ? block * ROWS : filters - ROWS, again = block * ROWS - row;
    const long channel = (first_matrix + matrix) % g->groups * filters + row;
    const bool biased = g->has_bias && first_row == 0;
    __global const TYPE *block_a = a + channel * g->rows + first_row;
    __global const TYPE *panel_b = patches + (matrix * chunk_panels + panel) * chunk_rows * PANEL;
    const long pixels = g->size[0] * g->size[1] * g->size[2], from = ((long)first_panel + panel) * PANEL;
    const int columns = pixels - from < PANEL ? pixels - from : PANEL;
    TYPE tile[ROWS * PANEL];
    switch ((columns + WIDTH - 1) / WIDTH) {
    case COLUMNS:
        PRODUCT(COLUMNS)
        break;
#if COLUMNS > 1
    case 1:
        PRODUCT(1)
        break;
#endif
#if COLUMNS > 2
    case 2:
        PRODUCT(2)
        break;
#endif
#if COLUMNS > 3
    case 3:
        PRODUCT(3)
        break;
#endif
#if COLUMNS > 4
    case 4:
        PRODUCT(4)
        break;
#endif
#if COLUMNS > 5
    case 5:
        PRODUCT(5)
        break;
#endif
#if COLUMNS > 6
    case 6:
        PRODUCT(6)
        break;
#endif
#if COLUMNS > 7
    case 7:
        PRODUCT(7)
        break;
#endif
    }
    const long volume = g->out_size[0] * g->out_size[1] * g->out_size[2];
    __global TYPE *out = y + ((first_matrix + matrix) * filters + row) * volume;
    if (volume == pixels) {
        for (int i = again; i < ROWS; ++i) {
            __global TYPE *to = out + i * volume + from;
            const TYPE *got = tile + i * PANEL;
            int l = 0;
            for (; l + WIDTH <= columns; l += WIDTH)
                STORE(first_row ? LOAD(to + l) + GET(got + l) : GET(got + l), to + l);
            for (; l < columns; ++l)
                to[l] = first_row ? to[l] + got[l] : got[l];
        }
        return;
    }
    for (int l = 0; l < columns; ++l) {
        __global TYPE *to = out + place_of_column(from + l, g);
        for (int i = again; i < ROWS; ++i)
            to[i * volume] = first_row ? to[i * volume] + tile[i * PANEL + l] : tile[i * PANEL + l];
    }
}
#endif
