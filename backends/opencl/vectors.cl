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

/* Loops that the preprocessor writes out: compilers keep an array in registers only where no loop indexes it. */
#define ROWS_1(X, n) X(0, n)
#define ROWS_2(X, n) ROWS_1(X, n) X(1, n)
#define ROWS_3(X, n) ROWS_2(X, n) X(2, n)
#define ROWS_4(X, n) ROWS_3(X, n) X(3, n)
#define ROWS_5(X, n) ROWS_4(X, n) X(4, n)
#define ROWS_6(X, n) ROWS_5(X, n) X(5, n)
#define ROWS_7(X, n) ROWS_6(X, n) X(6, n)
#define ROWS_8(X, n) ROWS_7(X, n) X(7, n)
#define ROWS_9(X, n) ROWS_8(X, n) X(8, n)
#define ROWS_10(X, n) ROWS_9(X, n) X(9, n)
#define ROWS_11(X, n) ROWS_10(X, n) X(10, n)
#define ROWS_12(X, n) ROWS_11(X, n) X(11, n)
#define ROWS_13(X, n) ROWS_12(X, n) X(12, n)
#define ROWS_14(X, n) ROWS_13(X, n) X(13, n)
#define ROWS_15(X, n) ROWS_14(X, n) X(14, n)
#define ROWS_16(X, n) ROWS_15(X, n) X(15, n)
#define COLUMNS_1(X, i) X(i, 0)
#define COLUMNS_2(X, i) COLUMNS_1(X, i) X(i, 1)
#define COLUMNS_3(X, i) COLUMNS_2(X, i) X(i, 2)
#define COLUMNS_4(X, i) COLUMNS_3(X, i) X(i, 3)
#define COLUMNS_5(X, i) COLUMNS_4(X, i) X(i, 4)
#define COLUMNS_6(X, i) COLUMNS_5(X, i) X(i, 5)
#define COLUMNS_7(X, i) COLUMNS_6(X, i) X(i, 6)
#define COLUMNS_8(X, i) COLUMNS_7(X, i) X(i, 7)
