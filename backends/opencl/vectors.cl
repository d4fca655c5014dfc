/* VECTOR: WIDTH elements, and how they are read and written wherever they stand.
 *
 * Build options
 *   -DWIDTH=1|2|4|8|16
 *
 * Arguments, Work size, Limits: those of the kernels that include it.
 *
 * LOAD and STORE are for global memory, FETCH reads local memory, GET and PUT are for private memory. They go by pointers to a vector that is
 * aligned as its elements are: PoCL 3.0 calls a function for vload16.
 */
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#if WIDTH == 1
typedef TYPE VECTOR;
#define LOAD(p) (*(p))
#define STORE(v, p) (*(p) = (v))
#define FETCH(p) (*(p))
#define GET(p) (*(p))
#define PUT(v, p) (*(p) = (v))
#else
typedef CAT(TYPE, WIDTH) VECTOR;
typedef VECTOR UNALIGNED __attribute__((aligned(sizeof(TYPE))));
#define LOAD(p) (*(__global const UNALIGNED *)(p))
#define STORE(v, p) (*(__global UNALIGNED *)(p) = (v))
#define FETCH(p) (*(__local const UNALIGNED *)(p))
#define GET(p) (*(const UNALIGNED *)(p))
#define PUT(v, p) (*(UNALIGNED *)(p) = (v))
/* EVEN(a, b): every second element of a and then of b. Written as a vector of two vectors it crashes Oclgrind 21.10. */
#ifndef __clang__
#define EVEN(a, b) (VECTOR)((a).even, (b).even)
#elif WIDTH == 2
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2)
#elif WIDTH == 4
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#elif WIDTH == 8
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#else
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#endif
#endif
