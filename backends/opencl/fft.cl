/* Overlap-save: blocks of the input and all filters transformed, multiplied frequency by frequency, transformed back.
 *
 * LANES independent transforms stand side by side: an element of a batch of them is its LANES real parts, then its LANES
 * imaginary parts. A transform is in place, by decimation in frequency, and leaves its frequencies in digit-reversed
 * order; the inverse takes that order by decimation in time, so that nothing is ever reordered. Two blocks of one image
 * are the real and the imaginary part of one transform: a real filter keeps them apart. The inverse swaps real and
 * imaginary part, which conjugates every factor of the transform.
 *
 * On a processor an item takes a whole batch, WIDTH is LANES, and a batch stays in the cache through all its passes. On a
 * GPU WIDTH is 1 and neighbouring items take neighbouring lanes.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DLANES=16                 transforms side by side
 *   -DSPREAD                   a scalar for all lanes is multiplied, not a lane's own
 * Arguments
 *   g          Plan, one, constant: backends/opencl/fft.py writes it
 *   place      int4[batches][LANES][2]: for each lane's real and imaginary part the plane, -1 for none, and along each axis
 *              where it begins: for x and y the first element of the block, for w the residue of the stride
 *   factor     TYPE, pairs of cosine and -sine: of each pass, stage after stage, and of the two rows of a split axis
 *   x, w, b, y the operands; b is not read where has_bias is 0
 *   reached    char[out_size[0] + out_size[1] + out_size[2]]: 0 where no tap reaches the output, which then is the bias;
 *              2 where the 15 behind it are reached, too
 *   s          TYPE[batches][points][2][LANES], spectra
 * Work size    one dimension, rounded up, see each kernel
 * Limits       fewer than 2^31 elements along an axis, planes, and real numbers in a batch; 64-bit offsets between batches
 */
typedef struct {
    long size[3], pitch, points, split;          /* of a transform as it is stored; split: its rows are one axis */
    long transform[3], taps[3], block[3];        /* lengths along the axes; taps of one phase; outputs of a block */
    long in_size[3], out_size[3], kernel_size[3], stride[3], dilation[3];
    long mode, flip, has_bias, out_channels;
    long passes, n[3], step[3], stages[3], radix[3][16], factor[3], between;
} Plan;

#define PAIR (2 * LANES)

/* A complex number z is the two vectors zr and zi. `p` is at the real parts, `im` elements further are the imaginary
 * ones. No comma outside parentheses: these macros are arguments of others. */
#define TAKE(z, p)                                                         \
    VECTOR z##r = LOAD(p);                                                 \
    VECTOR z##i = LOAD((p) + im);
#define LEAVE(z, p)                                                        \
    STORE(z##r, p);                                                        \
    STORE(z##i, (p) + im);
/* times cosine and -sine of an angle */
#define TURN(z, f)                                                         \
    {                                                                      \
        const TYPE cosine = (f)[0];                                        \
        const TYPE sine = (f)[1];                                          \
        const VECTOR old = z##r;                                           \
        z##r = old * cosine - z##i * sine;                                 \
        z##i = old * sine + z##i * cosine;                                 \
    }
/* z = a + b, a - b, a - i b, a + i b */
#define PLUS(z, a, b)                                                      \
    z##r = a##r + b##r;                                                    \
    z##i = a##i + b##i;
#define MINUS(z, a, b)                                                     \
    z##r = a##r - b##r;                                                    \
    z##i = a##i - b##i;
#define MINUS_I(z, a, b)                                                   \
    z##r = a##r + b##i;                                                    \
    z##i = a##i - b##r;
#define PLUS_I(z, a, b)                                                    \
    z##r = a##r - b##i;                                                    \
    z##i = a##i + b##r;
#define NEW(z)                                                             \
    VECTOR z##r;                                                           \
    VECTOR z##i;

#define DFT2(a, b)                                                         \
    {                                                                      \
        NEW(dif)                                                           \
        MINUS(dif, a, b)                                                   \
        PLUS(a, a, b)                                                      \
        b##r = difr;                                                     \
        b##i = difi;                                                     \
    }
#define DFT3(a, b, c)                                                      \
    {                                                                      \
        NEW(sum)                                                           \
        NEW(dif)                                                           \
        NEW(mid)                                                           \
        PLUS(sum, b, c)                                                    \
        MINUS(dif, b, c)                                                   \
        difr *= (TYPE)0.86602540378443864676;                              \
        difi *= (TYPE)0.86602540378443864676;                              \
        midr = a##r - sumr * (TYPE)0.5;                                \
        midi = a##i - sumi * (TYPE)0.5;                                \
        PLUS(a, a, sum)                                                    \
        MINUS_I(b, mid, dif)                                               \
        PLUS_I(c, mid, dif)                                                \
    }
#define DFT4(a, b, c, d)                                                   \
    {                                                                      \
        NEW(sum0)                                                          \
        NEW(sum1)                                                          \
        NEW(dif0)                                                          \
        NEW(dif1)                                                          \
        PLUS(sum0, a, c)                                                   \
        MINUS(dif0, a, c)                                                  \
        PLUS(sum1, b, d)                                                   \
        MINUS(dif1, b, d)                                                  \
        PLUS(a, sum0, sum1)                                                \
        MINUS_I(b, dif0, dif1)                                             \
        MINUS(c, sum0, sum1)                                               \
        PLUS_I(d, dif0, dif1)                                              \
    }
/* Two of 4: of the sums, and of the differences turned by eighths. */
#define DFT8(a, b, c, d, e, f, g, h)                                       \
    {                                                                      \
        const TYPE diagonal = (TYPE)0.70710678118654752440;                \
        NEW(p)                                                             \
        NEW(q)                                                             \
        NEW(u)                                                             \
        NEW(v)                                                             \
        VECTOR old;                                                        \
        MINUS(p, a, e)                                                     \
        MINUS(q, b, f)                                                     \
        MINUS(u, c, g)                                                     \
        MINUS(v, d, h)                                                     \
        PLUS(a, a, e)                                                      \
        PLUS(b, b, f)                                                      \
        PLUS(c, c, g)                                                      \
        PLUS(d, d, h)                                                      \
        DFT4(a, b, c, d)                                                   \
        old = qr;                                                          \
        qr = (old + qi) * diagonal;                                        \
        qi = (qi - old) * diagonal;                                        \
        old = ur;                                                          \
        ur = ui;                                                           \
        ui = -old;                                                         \
        old = vr;                                                          \
        vr = (vi - old) * diagonal;                                        \
        vi = -(old + vi) * diagonal;                                       \
        DFT4(p, q, u, v)                                                   \
        BECOMES(h, v)                                                      \
        BECOMES(g, d)                                                      \
        BECOMES(f, u)                                                      \
        BECOMES(e, c)                                                      \
        BECOMES(d, q)                                                      \
        BECOMES(c, b)                                                      \
        BECOMES(b, p)                                                      \
    }
#define BECOMES(z, a)                                                      \
    z##r = a##r;                                                           \
    z##i = a##i;

/* One stage: `count` pieces of radix * `sub` elements. Without factors where sub is 1. */
#define STAGE_LOOP(radix, before, dft, after)                              \
    for (int j = 0; j < sub; ++j) {                                        \
        __global const TYPE *f = factor + j * 2 * (radix - 1);             \
        for (int piece = 0; piece < count; ++piece) {                      \
            __global TYPE *at = x + (piece * (radix) * sub + j) * step;    \
            before dft after                                               \
        }                                                                  \
    }
#define TAKE2 TAKE(e0, at) TAKE(e1, at + far)
#define TAKE3 TAKE2 TAKE(e2, at + 2 * far)
#define TAKE4 TAKE3 TAKE(e3, at + 3 * far)
#define TAKE8 TAKE4 TAKE(e4, at + 4 * far) TAKE(e5, at + 5 * far) TAKE(e6, at + 6 * far) TAKE(e7, at + 7 * far)
#define TURN2 TURN(e1, f)
#define TURN3 TURN2 TURN(e2, f + 2)
#define TURN4 TURN3 TURN(e3, f + 4)
#define TURN8 TURN4 TURN(e4, f + 6) TURN(e5, f + 8) TURN(e6, f + 10) TURN(e7, f + 12)
#define LEAVE2 LEAVE(e0, at) LEAVE(e1, at + far)
#define LEAVE3 LEAVE2 LEAVE(e2, at + 2 * far)
#define LEAVE4 LEAVE3 LEAVE(e3, at + 3 * far)
#define LEAVE8 LEAVE4 LEAVE(e4, at + 4 * far) LEAVE(e5, at + 5 * far) LEAVE(e6, at + 6 * far) LEAVE(e7, at + 7 * far)
#define STAGE(radix, dft)                                                  \
    if (sub == 1)                                                          \
        STAGE_LOOP(radix, TAKE##radix, dft, LEAVE##radix)                  \
    else if (inverse)                                                      \
        STAGE_LOOP(radix, TAKE##radix TURN##radix, dft, LEAVE##radix)      \
    else                                                                   \
        STAGE_LOOP(radix, TAKE##radix, dft, TURN##radix LEAVE##radix)

inline void stage(
    __global TYPE *x, int im, int step, int radix, int sub, int count, __global const TYPE *factor, const bool inverse)
{
    const int far = sub * step;
    switch (radix) {
    case 2:
        STAGE(2, DFT2(e0, e1))
        break;
    case 3:
        STAGE(3, DFT3(e0, e1, e2))
        break;
    case 4:
        STAGE(4, DFT4(e0, e1, e2, e3))
        break;
    default:
        STAGE(8, DFT8(e0, e1, e2, e3, e4, e5, e6, e7))
    }
}

/* Pass p along one line; x is at its first element. `column` is its place along the second row of a split axis. */
inline void line_pass(
    __constant const Plan *restrict g, __global const TYPE *restrict factor, int p, __global TYPE *x, int column, const bool inverse)
{
    const int n = g->n[p], step = g->step[p] * PAIR, stages = g->stages[p], im = inverse ? -LANES : LANES;
    const bool between = g->split && p == 0;
    __global const TYPE *turn = factor + g->between + (long)column * n * 2;
    __global const TYPE *f = factor + g->factor[p];
    x += inverse ? LANES : 0;
    if (inverse) {
        if (between)
            for (int k = 0; k < n; ++k) {
                TAKE(z, x + k * step)
                TURN(z, turn + 2 * k)
                LEAVE(z, x + k * step)
            }
        for (int i = stages - 1, sub = 1; i >= 0; --i) {
            const int radix = g->radix[p][i];
            /* the factors of the stages before take n - radix * sub elements */
            stage(x, im, step, radix, sub, n / (radix * sub), f + 2 * (n - radix * sub), true);
            sub *= radix;
        }
    } else {
        for (int i = 0, sub = n; i < stages; ++i) {
            const int radix = g->radix[p][i], whole = sub;
            sub /= radix;
            stage(x, im, step, radix, sub, n / whole, f + 2 * (n - whole), false);
        }
        if (between)
            for (int k = 0; k < n; ++k) {
                TAKE(z, x + k * step)
                TURN(z, turn + 2 * k)
                LEAVE(z, x + k * step)
            }
    }
}

/* Elements that stand before the l-th line of pass p, in a stored transform, and the number of lines */
inline int line_start(__constant const Plan *restrict g, int p, int l)
{
    const int rows = g->size[1], columns = g->size[2], pitch = g->pitch, step = g->step[p];
    if (step == 1)
        return l * pitch;
    if (step == pitch)
        return l / columns * rows * pitch + l % columns;
    return l / columns * pitch + l % columns;
}

inline int lines_of(__constant const Plan *restrict g, int p) { return g->size[0] * g->size[1] * g->size[2] / g->n[p]; }

/* Whether all of a line of pass p of a filter is zero: its taps stand at 0 and at the ends of the axes. */
inline bool is_zero_line(__constant const Plan *restrict g, int p, int l)
{
    const int rows = g->size[1], columns = g->size[2], step = g->step[p];
    if (g->split || step == 1)
        return false;
    const int c = l % columns, r = l / columns;
    if (c > 0 && c <= columns - (int)g->taps[2])
        return true;
    return step != g->pitch && r > 0 && r <= rows - (int)g->taps[1];
}

/* The place along the three axes of element (i, j, k) of a stored transform */
inline int3 along(__constant const Plan *restrict g, int i, int j, int k)
{
    return g->split ? (int3)(0, 0, j * (int)g->size[2] + k) : (int3)(i, j, k);
}

inline TYPE input_at(__constant const Plan *restrict g, __global const TYPE *restrict x, int4 from, int3 at)
{
    if (from.x < 0)
        return 0;
    const long d = source_of(from.y + at.x * g->stride[0], g->in_size[0], g->mode);
    const long h = source_of(from.z + at.y * g->stride[1], g->in_size[1], g->mode);
    const long w = source_of(from.w + at.z * g->stride[2], g->in_size[2], g->mode);
    /* beyond the padding as far as a block reaches, nothing is wanted of the result */
    if (d < 0 || h < 0 || w < 0 || d >= g->in_size[0] || h >= g->in_size[1] || w >= g->in_size[2])
        return 0;
    return x[((from.x * g->in_size[0] + d) * g->in_size[1] + h) * g->in_size[2] + w];
}

/* The tap that stands at place i of an axis, or -1: tap t of phase p stands at -(t d - p) / s */
inline int tap_at(__constant const Plan *restrict g, int a, int i, int phase)
{
    const int n = g->transform[a], j = i ? n - i : 0, k = g->kernel_size[a], d = g->dilation[a];
    const long at = j * g->stride[a] + phase;
    if (at % d || at / d >= k)
        return -1;
    return g->flip ? k - 1 - at / d : at / d;
}

inline TYPE filter_at(__constant const Plan *restrict g, __global const TYPE *restrict w, int4 from, int3 at)
{
    if (from.x < 0)
        return 0;
    const int i = tap_at(g, 0, at.x, from.y), j = tap_at(g, 1, at.y, from.z), k = tap_at(g, 2, at.z, from.w);
    if (i < 0 || j < 0 || k < 0)
        return 0;
    return w[((from.x * g->kernel_size[0] + i) * g->kernel_size[1] + j) * g->kernel_size[2] + k];
}

/* Stores one output of a block, if it is one. */
inline void output_at(
    __constant const Plan *restrict g, __global const TYPE *restrict b, __global const char *restrict reached,
    __global TYPE *restrict y, int4 to, int3 at, TYPE value)
{
    const long i = to.y + at.x, j = to.z + at.y, k = to.w + at.z;
    if (to.x < 0 || at.x >= g->block[0] || at.y >= g->block[1] || at.z >= g->block[2])
        return;
    if (i >= g->out_size[0] || j >= g->out_size[1] || k >= g->out_size[2])
        return;
    const TYPE bias = g->has_bias ? b[to.x % g->out_channels] : 0;
    const bool real = reached[i] && reached[g->out_size[0] + j] && reached[g->out_size[0] + g->out_size[1] + k];
    y[((to.x * g->out_size[0] + i) * g->out_size[1] + j) * g->out_size[2] + k] = real ? value + bias : bias;
}

#if WIDTH > 1
/* t transposed: each round zips the first half with the second. The indices are constants, so that t is in registers. */
#if WIDTH == 16
#define ZIP_LOW(a, b)                                                                                                     \
    (VECTOR)((a).s0, (b).s0, (a).s1, (b).s1, (a).s2, (b).s2, (a).s3, (b).s3, (a).s4, (b).s4, (a).s5, (b).s5, (a).s6, (b).s6, \
        (a).s7, (b).s7)
#define ZIP_HIGH(a, b)                                                                                                    \
    (VECTOR)((a).s8, (b).s8, (a).s9, (b).s9, (a).sa, (b).sa, (a).sb, (b).sb, (a).sc, (b).sc, (a).sd, (b).sd, (a).se, (b).se, \
        (a).sf, (b).sf)
#define ZIP(o, t, k) o[2 * k] = ZIP_LOW(t[k], t[k + 8]); o[2 * k + 1] = ZIP_HIGH(t[k], t[k + 8]);
#define ROUND(o, t) ZIP(o, t, 0) ZIP(o, t, 1) ZIP(o, t, 2) ZIP(o, t, 3) ZIP(o, t, 4) ZIP(o, t, 5) ZIP(o, t, 6) ZIP(o, t, 7)
#define TRANSPOSE(t, o) ROUND(o, t) ROUND(t, o) ROUND(o, t) ROUND(t, o)
#define TRANSPOSED(t, o) t
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#else
#define ZIP_LOW(a, b) (VECTOR)((a).s0, (b).s0, (a).s1, (b).s1, (a).s2, (b).s2, (a).s3, (b).s3)
#define ZIP_HIGH(a, b) (VECTOR)((a).s4, (b).s4, (a).s5, (b).s5, (a).s6, (b).s6, (a).s7, (b).s7)
#define ZIP(o, t, k) o[2 * k] = ZIP_LOW(t[k], t[k + 4]); o[2 * k + 1] = ZIP_HIGH(t[k], t[k + 4]);
#define ROUND(o, t) ZIP(o, t, 0) ZIP(o, t, 1) ZIP(o, t, 2) ZIP(o, t, 3)
#define TRANSPOSE(t, o) ROUND(o, t) ROUND(t, o) ROUND(o, t)
#define TRANSPOSED(t, o) o
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#endif

/* forward_x: the spectra of a batch of blocks of x
 *
 * Work size   one item a batch
 */
__kernel void forward_x(
    __constant const Plan *restrict g,
    __global const int4 *restrict place,
    __global const TYPE *restrict factor,
    __global const TYPE *restrict x,
    __global TYPE *restrict s,
    const int batches)
{
    const int q = get_global_id(0);
    if (q >= batches)
        return;
    const int planes = g->size[0], rows = g->size[1], columns = g->size[2], pitch = g->pitch;
    const int n = g->in_size[2], stride = g->stride[2];
    __global TYPE *to = s + (long)q * g->points * PAIR;
    place += q * PAIR;
    TYPE tile[2 * WIDTH * WIDTH];
    for (int r = 0; r < planes * rows; ++r)
        for (int c = 0; c < columns; c += WIDTH) {
            const int3 at = along(g, r / rows, r % rows, c);
            const int count = min(WIDTH, columns - c);
            for (int l = 0; l < 2 * WIDTH; ++l) {
                const int4 from = place[l];
                TYPE *into = tile + (l % 2 * WIDTH + l / 2) * WIDTH;
                const long d = from.x < 0 ? -1 : source_of(from.y + at.x * g->stride[0], g->in_size[0], g->mode);
                const long h = source_of(from.z + at.y * g->stride[1], g->in_size[1], g->mode);
                const int first = from.w + at.z * stride;
                if (d < 0 || h < 0 || d >= g->in_size[0] || h >= g->in_size[1]) {
                    PUT((VECTOR)0, into);
                } else if (stride == 1 && first >= 0 && first + WIDTH <= n) {
                    PUT(LOAD(x + ((from.x * g->in_size[0] + d) * g->in_size[1] + h) * n + first), into);
                } else {
                    __global const TYPE *row = x + ((from.x * g->in_size[0] + d) * g->in_size[1] + h) * n;
                    for (int i = 0; i < WIDTH; ++i) {
                        const long w = i < count ? source_of(first + i * stride, n, g->mode) : -1;
                        into[i] = w < 0 || w >= n ? 0 : row[w];
                    }
                }
            }
            __global TYPE *line = to + (r * pitch + c) * PAIR;
            for (int part = 0; part < 2; ++part, line += LANES) {
                VECTOR t[WIDTH], o[WIDTH];
#define FILL(k) t[k] = GET(tile + (part * WIDTH + k) * WIDTH);
#define WRITE(k)     \
    if (k < count)   \
        STORE(TRANSPOSED(t, o)[k], line + k * PAIR);
                EACH(FILL)
                TRANSPOSE(t, o)
                EACH(WRITE)
            }
        }
    for (int p = 0; p < g->passes; ++p)
        for (int l = 0; l < lines_of(g, p); ++l)
            line_pass(g, factor, p, to + line_start(g, p, l) * PAIR, l, false);
}

/* forward_w: the spectra of a batch of filters
 *
 * Work size   one item a batch
 */
__kernel void forward_w(
    __constant const Plan *restrict g,
    __global const int4 *restrict place,
    __global const TYPE *restrict factor,
    __global const TYPE *restrict w,
    __global TYPE *restrict s,
    const int batches)
{
    const int q = get_global_id(0);
    if (q >= batches)
        return;
    const int rows = g->size[1], columns = g->size[2], pitch = g->pitch;
    __global TYPE *to = s + (long)q * g->points * PAIR;
    place += q * PAIR;
    for (int i = 0; i < (int)g->points; ++i) {
        STORE((VECTOR)0, to + i * PAIR);
        STORE((VECTOR)0, to + i * PAIR + LANES);
    }
    const int kd = g->kernel_size[0], kh = g->kernel_size[1], kw = g->kernel_size[2], all = kd * kh * kw;
    const int td = g->transform[0], th = g->transform[1], tw = g->transform[2], split = g->split, flip = g->flip;
    const int sd = g->stride[0], sh = g->stride[1], sw = g->stride[2];
    const int dd = g->dilation[0], dh = g->dilation[1], dw = g->dilation[2];
    for (int l = 0; l < LANES; ++l) {
        const int4 from = place[2 * l];
        if (from.x < 0)
            continue;
        __global const TYPE *filter = w + (long)from.x * all + (flip ? all - 1 : 0);
        for (int a = 0; a < kd; ++a)
            for (int b = 0; b < kh; ++b) {
                const int d = a * dd - from.y, h = b * dh - from.z;
                if (d < 0 || d % sd || h < 0 || h % sh)
                    continue;
                const int i = d ? td - d / sd : 0, j = h ? th - h / sh : 0, first = (a * kh + b) * kw;
                __global TYPE *row = to + (i * rows + j) * pitch * PAIR + l;
                for (int c = 0; c < kw; ++c) {
                    const int v = c * dw - from.w;
                    if (v < 0 || (sw > 1 && v % sw))
                        continue;
                    const int k = v ? tw - (sw > 1 ? v / sw : v) : 0;
                    const int at = split ? k / columns * pitch + k % columns : k;
                    row[at * PAIR] = filter[flip ? -first - c : first + c];
                }
            }
    }
    for (int p = 0; p < g->passes; ++p)
        for (int l = 0; l < lines_of(g, p); ++l)
            if (!is_zero_line(g, p, l))
                line_pass(g, factor, p, to + line_start(g, p, l) * PAIR, l, false);
}
#else

/* fill_x, fill_w: blocks of x and filters, not yet transformed
 *
 * Work size   batches * points * LANES
 */
#define FILLS(name, element)                                                              \
    __kernel void name(                                                                   \
        __constant const Plan *restrict g, __global const int4 *restrict place,           \
        __global const TYPE *restrict from, __global TYPE *restrict s, const int batches) \
    {                                                                                     \
        const long id = get_global_id(0), i = id / LANES % g->points, q = id / LANES / g->points;    \
        if (q >= batches)                                                                 \
            return;                                                                       \
        const int lane = id % LANES, pitch = g->pitch, rows = g->size[1], k = i % pitch;  \
        const int3 at = along(g, i / pitch / rows, i / pitch % rows, k);                  \
        __global TYPE *to = s + (q * g->points + i) * PAIR + lane;                        \
        place += (q * LANES + lane) * 2;                                                  \
        to[0] = k < g->size[2] ? element(g, from, place[0], at) : 0;                      \
        to[LANES] = k < g->size[2] ? element(g, from, place[1], at) : 0;                  \
    }
FILLS(fill_x, input_at)
FILLS(fill_w, filter_at)

/* transform: pass p of a batch, forward or back
 *
 * Work size   batches * lines of the pass * LANES
 */
__kernel void transform(
    __constant const Plan *restrict g, __global const TYPE *restrict factor, __global TYPE *restrict s, const int batches,
    const int p, const int inverse)
{
    const long id = get_global_id(0);
    const int lines = lines_of(g, p), l = id / LANES % lines, q = id / LANES / lines;
    if (q >= batches)
        return;
    __global TYPE *x = s + ((long)q * g->points + line_start(g, p, l)) * PAIR + id % LANES;
    if (inverse)
        line_pass(g, factor, p, x, l, true);
    else
        line_pass(g, factor, p, x, l, false);
}

/* store: the wanted outputs of the blocks
 *
 * Work size   batches * points * LANES
 */
__kernel void store(
    __constant const Plan *restrict g, __global const int4 *restrict place, __global const TYPE *restrict b,
    __global const char *restrict reached, __global TYPE *restrict y, __global const TYPE *restrict s, const int batches,
    const TYPE scale)
{
    const long id = get_global_id(0), i = id / LANES % g->points, q = id / LANES / g->points;
    if (q >= batches)
        return;
    const int lane = id % LANES, pitch = g->pitch, rows = g->size[1], k = i % pitch;
    if (k >= g->size[2])
        return;
    const int3 at = along(g, i / pitch / rows, i / pitch % rows, k);
    __global const TYPE *from = s + (q * g->points + i) * PAIR + lane;
    place += (q * LANES + lane) * 2;
    output_at(g, b, reached, y, place[0], at, from[0] * scale);
    output_at(g, b, reached, y, place[1], at, from[LANES] * scale);
}
#endif

/* Products: z[o][r][chunk] = sum over c of v[o][c][chunk] s[o][r][c] at each point. With SPREAD, s holds scalars, numbered on
 * without a gap; otherwise s is [r][c][chunk], the same for each o. */
#ifdef SPREAD
#define FACTOR(k) const long e##k = (first + (k)) * channels + c;                                  \
    __global const TYPE *p##k = sf + e##k / LANES * batch + e##k % LANES;                          \
    const TYPE sr##k = p##k[0], si##k = p##k[LANES];
#else
#define FACTOR(k) __global const TYPE *p##k = sf + ((first + (k)) * channels + c) * chunks * batch; \
    const VECTOR sr##k = LOAD(p##k), si##k = LOAD(p##k + LANES);
#endif
/* Channels that an item takes before it goes on along the points: so many streams a processor reads ahead. Their sum begins
 * at zero and is added once, so that it rounds less than one sum of all channels would. */
#define CHANNELS 8
#define START(k) VECTOR zr##k = 0, zi##k = 0;
#define MULTIPLY(k)                                                        \
    {                                                                      \
        FACTOR(k)                                                          \
        zr##k += sr##k * vr;                                               \
        zr##k -= si##k * vi;                                               \
        zi##k += sr##k * vi;                                               \
        zi##k += si##k * vr;                                               \
    }
#define KEEP(k) KEEP_AS(k, zf + (first + (k)) * chunks * batch)
#define KEEP_AS(k, p)                                                      \
    STORE(begun ? zr##k + LOAD(p) : zr##k, p);                             \
    STORE(begun ? zi##k + LOAD((p) + LANES) : zi##k, (p) + LANES);
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define SUM(n)                                                             \
    {                                                                      \
        ROWS_##n(START)                                                    \
        for (int c = begun; c < stop; ++c) {                               \
            __global const TYPE *vc = vf + (long)c * chunks * batch;       \
            const VECTOR vr = LOAD(vc), vi = LOAD(vc + LANES);             \
            ROWS_##n(MULTIPLY)                                             \
        }                                                                  \
        ROWS_##n(KEEP)                                                     \
    }

/* multiply: the spectra of the outputs
 *
 * Arguments
 *   v, s, z     spectra, as above
 *   outer, chunks, channels, rows    numbers of o, chunk, c, r
 *   points, slice                    points of a transform, and of them an item's
 * Work size   outer * chunks * ceil(points / slice), times LANES / WIDTH
 */
__kernel void multiply(
    __global const TYPE *restrict v,
    __global const TYPE *restrict s,
    __global TYPE *restrict z,
    const int outer,
    const int chunks,
    const int channels,
    const int rows,
    const int points,
    const int slice)
{
    const int lanes = LANES / WIDTH, id = get_global_id(0) / lanes, lane = get_global_id(0) % lanes;
    const int slices = (points + slice - 1) / slice, begin = id % slices * slice, chunk = id / slices % chunks;
    const int o = id / slices / chunks;
    if (o >= outer)
        return;
    const long batch = (long)points * PAIR;
    for (int begun = 0; begun < channels; begun += CHANNELS) {
        const int stop = min(begun + CHANNELS, channels);
        for (int f = begin; f < min(begin + slice, points); ++f) {
            __global const TYPE *vf = v + ((long)o * channels * chunks + chunk) * batch + f * PAIR + lane;
            __global TYPE *zf = z + chunk * batch + f * PAIR + lane;
#ifdef SPREAD
            __global const TYPE *sf = s + f * PAIR;
            long first = (long)o * rows;
            const long end = first + rows;
#else
            __global const TYPE *sf = s + chunk * batch + f * PAIR + lane;
            zf += (long)o * rows * chunks * batch;
            long first = 0;
            const long end = rows;
#endif
            for (; first + 6 <= end; first += 6)
                SUM(6)
            for (; first + 3 <= end; first += 3)
                SUM(3)
            for (; first < end; ++first)
                SUM(1)
        }
    }
}

#if WIDTH > 1
/* inverse_y: the outputs of a batch of spectra; where there is but one channel, it multiplies them itself
 *
 * Arguments, besides
 *   v, a        spectra as in `multiply`, read where fused is set
 *   outer, chunks, rows, fused
 * Work size   one item a batch
 */
__kernel void inverse_y(
    __constant const Plan *restrict g,
    __global const int4 *restrict place,
    __global const TYPE *restrict factor,
    __global const TYPE *restrict b,
    __global const char *restrict reached,
    __global TYPE *restrict y,
    __global TYPE *restrict s,
    const int batches,
    const TYPE scale,
    __global const TYPE *restrict v,
    __global const TYPE *restrict a,
    const int chunks,
    const int rows_of,
    const int fused)
{
    const int q = get_global_id(0);
    if (q >= batches)
        return;
    const int planes = g->size[0], rows = g->size[1], columns = g->size[2], pitch = g->pitch, points = g->points;
    const int n = g->out_size[2];
    __global TYPE *z = s + (long)q * points * PAIR;
    if (fused) {
        const int chunk = q % chunks, row = q / chunks % rows_of, o = q / chunks / rows_of;
        __global const TYPE *vf = v + ((long)o * chunks + chunk) * points * PAIR;
#ifdef SPREAD
        const int e = o * rows_of + row;
        __global const TYPE *sf = a + (long)(e / LANES) * points * PAIR + e % LANES;
#define ONE(p) (*(p))
#else
        __global const TYPE *sf = a + ((long)row * chunks + chunk) * points * PAIR;
#define ONE(p) LOAD(p)
#endif
        for (int f = 0; f < points * PAIR; f += PAIR) {
            const VECTOR vr = LOAD(vf + f), vi = LOAD(vf + f + LANES), sr = ONE(sf + f), si = ONE(sf + f + LANES);
            STORE(vr * sr - vi * si, z + f);
            STORE(vr * si + vi * sr, z + f + LANES);
        }
    }
    for (int p = g->passes - 1; p >= 0; --p)
        for (int l = 0; l < lines_of(g, p); ++l)
            line_pass(g, factor, p, z + line_start(g, p, l) * PAIR, l, true);
    place += q * PAIR;
    TYPE tile[2 * WIDTH * WIDTH];
    for (int r = 0; r < planes * rows; ++r)
        for (int c = 0; c < columns; c += WIDTH) {
            const int3 at = along(g, r / rows, r % rows, c);
            if (at.x >= g->block[0] || at.y >= g->block[1] || at.z >= g->block[2])
                break;
            const int count = min(min(WIDTH, columns - c), (int)g->block[2] - at.z);
            __global const TYPE *line = z + (r * pitch + c) * PAIR;
            for (int part = 0; part < 2; ++part, line += LANES) {
                VECTOR t[WIDTH], o[WIDTH];
#define READ(k) t[k] = k < count ? LOAD(line + k * PAIR) * scale : (VECTOR)0;
#define SPILL(k) PUT(TRANSPOSED(t, o)[k], tile + (part * WIDTH + k) * WIDTH);
                EACH(READ)
                TRANSPOSE(t, o)
                EACH(SPILL)
            }
            for (int l = 0; l < 2 * WIDTH; ++l) {
                const int4 to = place[l];
                const long i = to.y + at.x, j = to.z + at.y;
                const int first = to.w + at.z;
                if (to.x < 0 || i >= g->out_size[0] || j >= g->out_size[1] || first >= n)
                    continue;
                const TYPE *got = tile + (l % 2 * WIDTH + l / 2) * WIDTH;
                const TYPE bias = g->has_bias ? b[to.x % g->out_channels] : 0;
                __global TYPE *out = y + ((to.x * g->out_size[0] + i) * g->out_size[1] + j) * n + first;
                __global const char *real = reached + g->out_size[0] + g->out_size[1] + first;
                const bool row_real = reached[i] && reached[g->out_size[0] + j];
                const int most = min(count, n - first);
                if (most == WIDTH && row_real && real[0] == 2)
                    STORE(GET(got) + bias, out);
                else
                    for (int k = 0; k < most; ++k)
                        out[k] = row_real && real[k] ? got[k] + bias : bias;
            }
        }
}
#endif
