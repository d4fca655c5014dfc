/* dense: y[n, m] = b[m] + w[m] . x[n], the convolution whose window is the whole input: a matrix times a vector
 *
 * The filters are read once and are all that costs: neighbouring vectors of a row by one item, or by neighbouring items.
 *
 * Build options, besides those of common.cl and vectors.cl
 *   -DROWS=16     filters an item or group
 *   -DITEMS=1     work items a group, a power of two; WIDTH is 1 where there are several
 * Arguments
 *   x         TYPE[batch][groups][terms]
 *   w         TYPE[groups][filters][terms]
 *   b         TYPE[groups * filters]; unread where has_bias is 0
 *   y         TYPE[batch][groups * filters]
 *   filters   of a group of channels;  terms, has_bias
 * Work size   filters / ROWS, rounded up, groups of ITEMS; groups of channels; batch
 * Limits      fewer than 2^31 terms
 */
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void dense(
    __global const TYPE *restrict x,
    __global const TYPE *restrict w,
    __global const TYPE *restrict b,
    __global TYPE *restrict y,
    const int filters,
    const int terms,
    const int has_bias)
{
    const int lid = get_local_id(0), first = get_group_id(0) * ROWS, held = min(ROWS, filters - first);
    const long group = get_group_id(1), row = group * filters + first;
    __global const TYPE *v = x + (get_group_id(2) * get_num_groups(1) + group) * terms;
    __global const TYPE *r = w + row * terms;
    __global TYPE *out = y + get_group_id(2) * get_num_groups(1) * filters + row;
#if ITEMS == 1
    /* Four rows at a time: four streams of memory are fetched ahead, where one would be waited for. */
    for (int i = 0; i < held; i += 4) {
        __global const TYPE *r0 = r + (long)i * terms;
        __global const TYPE *r1 = r + (long)min(i + 1, held - 1) * terms;
        __global const TYPE *r2 = r + (long)min(i + 2, held - 1) * terms;
        __global const TYPE *r3 = r + (long)min(i + 3, held - 1) * terms;
        VECTOR s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        int k = 0;
        for (; k + WIDTH <= terms; k += WIDTH) {
            const VECTOR u = LOAD(v + k);
            s0 += LOAD(r0 + k) * u;
            s1 += LOAD(r1 + k) * u;
            s2 += LOAD(r2 + k) * u;
            s3 += LOAD(r3 + k) * u;
        }
        TYPE lanes[4][WIDTH], sum[4] = {0, 0, 0, 0};
        PUT(s0, lanes[0]);
        PUT(s1, lanes[1]);
        PUT(s2, lanes[2]);
        PUT(s3, lanes[3]);
        for (; k < terms; ++k) {
            sum[0] += r0[k] * v[k];
            sum[1] += r1[k] * v[k];
            sum[2] += r2[k] * v[k];
            sum[3] += r3[k] * v[k];
        }
        for (int j = 0; j < 4 && i + j < held; ++j) {
            for (int l = 0; l < WIDTH; ++l)
                sum[j] += lanes[j][l];
            out[i + j] = has_bias ? sum[j] + b[row + i + j] : sum[j];
        }
    }
#else
    __local TYPE sums[ITEMS];
    for (int i = 0; i < held; ++i, r += terms) {
        TYPE sum = 0;
        for (int k = lid; k < terms; k += ITEMS)
            sum += r[k] * v[k];
        sums[lid] = sum;
        for (int other = ITEMS / 2; other > 0; other /= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            if (lid < other)
                sums[lid] += sums[lid + other];
        }
        if (lid == 0)
            out[i] = has_bias ? sums[0] + b[row + i] : sums[0];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#endif
}
