/* pack: the input as backends/opencl/windows.py stores it: padded, and split into the residues of the stride
 *
 * Build options   those of common.cl; -DBY_PLANE: an item stores a plane of a channel (processors), otherwise an element (GPUs)
 * Arguments
 *   g        Layout, one, constant
 *   residue  int[count[0] + count[1] + count[2]]: the residues that are stored, an axis after the other
 *   x        TYPE[channels of all samples][in_size...]
 *   out      TYPE[channels of all samples][residues of each axis...][size...], every element written, and `room` zeros behind
 * Work size   one item a plane (BY_PLANE) or an element, in one dimension, rounded up to the local size (any)
 * Limits      an axis of fewer than 2^31 elements, padding included
 */
typedef struct {
    long channels, mode;
    long in_size[3], size[3], first[3], stride[3], count[3], limit[3]; /* count: residues that are stored */
    long room;
} Layout;

inline TYPE element(__global const TYPE *line, long i, long n, long limit, long mode)
{
    const long at = source_within(i, n, limit, mode);
    return at < 0 ? 0 : line[at];
}

__kernel void pack(
    __constant const Layout *restrict g,
    __global const int *restrict residue,
    __global const TYPE *restrict x,
    __global TYPE *restrict out)
{
    const long id = get_global_id(0);
    const int row_size = g->size[2], rows = g->size[1];
    if (id == 0) { /* what vectors that begin in the last elements read: multiplied, not stored */
        const long planes = g->channels * g->count[0] * g->count[1] * g->count[2] * g->size[0];
        for (int i = 0; i < g->room; ++i)
            out[planes * rows * row_size + i] = 0;
    }
#ifdef BY_PLANE
    long rest = id;
#else
    const int w_at = id % row_size;
    long rest = id / row_size;
    const int h_only = rest % rows;
    rest /= rows;
#endif
    const int d_at = rest % g->size[0];
    rest /= g->size[0];
    const int phase_w = residue[g->count[0] + g->count[1] + rest % g->count[2]];
    rest /= g->count[2];
    const int phase_h = residue[g->count[0] + rest % g->count[1]];
    rest /= g->count[1];
    const int phase_d = residue[rest % g->count[0]];
    rest /= g->count[0];
    if (rest >= g->channels)
        return;
    const int n = g->in_size[2], mode = g->mode, s = g->stride[2], from = g->first[2] + phase_w;
    const long i_d = source_within(d_at * g->stride[0] + g->first[0] + phase_d, g->in_size[0], g->limit[0], mode);
    __global const TYPE *plane = x + (rest * g->in_size[0] + max(i_d, 0L)) * g->in_size[1] * n;
#ifdef BY_PLANE
    /* [a, z): the elements of a row that lie inside the input, where no index is wrapped */
    const int a = min(row_size, from < 0 ? (-from + s - 1) / s : 0);
    const int top = min((long)n, g->limit[2]); /* what is cropped counts as beyond */
    const int z = max(a, min(row_size, from < top ? (top - from + s - 1) / s : 0));
    __global TYPE *row = out + id * rows * row_size;
    for (int h_at = 0; h_at < rows; ++h_at, row += row_size) {
        const long i_h = source_within(h_at * g->stride[1] + g->first[1] + phase_h, g->in_size[1], g->limit[1], mode);
        if (i_d < 0 || i_h < 0) {
            for (int i = 0; i < row_size; ++i)
                row[i] = 0;
            continue;
        }
        __global const TYPE *line = plane + i_h * n + from;
        for (int i = 0; i < a; ++i)
            row[i] = element(line - from, i * s + from, n, g->limit[2], mode);
        for (int i = z; i < row_size; ++i)
            row[i] = element(line - from, i * s + from, n, g->limit[2], mode);
        if (s == 1)
            for (int i = a; i < z; ++i)
                row[i] = line[i];
        else if (s == 2)
            for (int i = a; i < z; ++i)
                row[i] = line[2 * i];
        else if (s == 4)
            for (int i = a; i < z; ++i)
                row[i] = line[4 * i];
        else
            for (int i = a; i < z; ++i)
                row[i] = line[i * s];
    }
#else
    const long i_h = source_within(h_only * g->stride[1] + g->first[1] + phase_h, g->in_size[1], g->limit[1], mode);
    out[id] = i_d < 0 || i_h < 0 ? 0 : element(plane + i_h * n, (long)w_at * s + from, n, g->limit[2], mode);
#endif
}
