/* pack: the input as backends/opencl/windows.py stores it: padded, and split into the residues of the stride
 *
 * Build options   those of common.cl; -DBY_ROW: an item stores a row (processors), otherwise an element (GPUs)
 * Arguments
 *   g        Layout, one, constant
 *   residue  int[count[0] + count[1] + count[2]]: the residues that are stored, an axis after the other
 *   x        TYPE[channels of all samples][in_size...]
 *   out      TYPE[channels of all samples][residues of each axis...][size...], every element written
 * Work size   one item a row (BY_ROW) or an element, in one dimension, rounded up to the local size (any)
 * Limits      none of its own
 */
typedef struct {
    long channels, mode;
    long in_size[3], size[3], first[3], stride[3], count[3]; /* count: residues that are stored */
} Layout;

inline TYPE element(__global const TYPE *line, long i, long n, long mode)
{
    const long at = source_of(i, n, mode);
    return at < 0 ? 0 : line[at];
}

__kernel void pack(
    __constant const Layout *restrict g,
    __global const int *restrict residue,
    __global const TYPE *restrict x,
    __global TYPE *restrict out)
{
    long id = get_global_id(0);
    const long row_size = g->size[2];
#ifdef BY_ROW
    long rest = id;
    __global TYPE *row = out + id * row_size;
#else
    const long w_at = id % row_size;
    long rest = id / row_size;
    __global TYPE *row = out + id - w_at;
#endif
    const long h_at = rest % g->size[1];
    rest /= g->size[1];
    const long d_at = rest % g->size[0];
    rest /= g->size[0];
    const long phase_w = residue[g->count[0] + g->count[1] + rest % g->count[2]];
    rest /= g->count[2];
    const long phase_h = residue[g->count[0] + rest % g->count[1]];
    rest /= g->count[1];
    const long phase_d = residue[rest % g->count[0]];
    rest /= g->count[0];
    if (rest >= g->channels)
        return;
    const long n = g->in_size[2], mode = g->mode, s = g->stride[2], from = g->first[2] + phase_w;
    const long i_d = source_of(d_at * g->stride[0] + g->first[0] + phase_d, g->in_size[0], mode);
    const long i_h = source_of(h_at * g->stride[1] + g->first[1] + phase_h, g->in_size[1], mode);
    const bool inside = i_d >= 0 && i_h >= 0;
    __global const TYPE *line = x + ((rest * g->in_size[0] + max(i_d, 0L)) * g->in_size[1] + max(i_h, 0L)) * n;
#ifdef BY_ROW
    /* [a, z): the elements that lie inside the input, where no index is wrapped */
    long a = row_size, z = row_size;
    if (inside) {
        a = min(row_size, from < 0 ? (-from + s - 1) / s : 0L);
        z = max(a, min(row_size, from < n ? (n - from + s - 1) / s : 0L));
    }
    for (long i = 0; i < a; ++i)
        row[i] = inside ? element(line, i * s + from, n, mode) : 0;
    for (long i = z; i < row_size; ++i)
        row[i] = element(line, i * s + from, n, mode);
    if (s == 1)
        for (long i = a; i < z; ++i)
            row[i] = line[i + from];
    else if (s == 2)
        for (long i = a; i < z; ++i)
            row[i] = line[2 * i + from];
    else
        for (long i = a; i < z; ++i)
            row[i] = line[i * s + from];
#else
    row[w_at] = inside ? element(line, w_at * s + from, n, mode) : 0;
#endif
}
