"""Mutations of what the kernels share, of transposed convolution and of the pools; and equivalent mutants.

A table, laid out by hand: class, name, sentence; file, words, what stands for them.
"""

from __future__ import annotations

from backends.planted.opencl import mutant

# fmt: off
# --- common.cl: all operations ---------------------------------------------------------------------------
mutant(
    "LAYOUT", "axes-in-reverse", "The output's axes are counted from the first, where the last runs fastest.",
    "common", "for (int a = 2; a >= 0; --a)", "for (int a = 0; a <= 2; ++a)",
)
mutant(
    "BATCH", "batch-innermost", "Samples run faster than channels in the output.",
    "common", "    p.m = id % g->out_channels;\n    p.n = id / g->out_channels;",
    "    p.n = id % g->batch;\n    p.m = id / g->batch;",
)
mutant(
    "HALO", "first-element-masked", "The bounds test says i > 0, where it says i >= 0.",
    "common", "if (i >= 0 && i < n)", "if (i > 0 && i < n)",
)
mutant(
    "HALO", "last-element-masked", "The bounds test says i < n - 1 from 3 elements on, where it says i < n.",
    "common", "if (i >= 0 && i < n)", "if (i >= 0 && i < n - (n > 2))",
)
mutant(
    "BORDER", "circular-one-off", "Circular padding begins with the last but one element.",
    "common", "return i < 0 ? i + n : i - n;", "return i < 0 ? i + n - 1 : i - n;",
)
mutant(
    "BORDER", "circular-mirrored", "The high side of circular padding runs backwards.",
    "common", "return i < 0 ? i + n : i - n;", "return i < 0 ? i + n : 2 * n - 1 - i;",
)
mutant(
    "BORDER", "reflect-low-repeats-the-edge", "Reflection at the low side repeats the edge.",
    "common", "return i < 0 ? -i : 2 * (n - 1) - i;", "return i < 0 ? -i - 1 : 2 * (n - 1) - i;",
)
mutant(
    "BORDER", "reflect-high-repeats-the-edge", "Reflection at the high side repeats the edge.",
    "common", "return i < 0 ? -i : 2 * (n - 1) - i;", "return i < 0 ? -i : 2 * n - 1 - i;",
)
mutant(
    "BORDER", "replicate-takes-the-first", "Replication takes the first element on both sides.",
    "common", "return i < 0 ? 0 : n - 1;", "return 0;",
)
mutant(
    "BORDER", "mode-numbers-out-of-step", "The kernel numbers reflect and replicate the other way round than the host.",
    "common", "REFLECT = 2, REPLICATE = 3", "REFLECT = 3, REPLICATE = 2",
)
mutant(
    "PADASYM", "geometry-low-high", "The record of the geometry holds the high padding before the low one.",
    "common", "low[3], high[3]", "high[3], low[3]",
)
mutant(
    "STRDIL", "geometry-stride-dilation", "The record of the geometry holds the dilation where the stride is.",
    "common", "stride[3], low[3], high[3], dilation[3]", "dilation[3], low[3], high[3], stride[3]",
)
mutant(
    "ACC", "half-truncated", "Sums in float16 are cut, not rounded to nearest.",
    "common", "vstore_half_rte(v, 0, (half *)&bits);", "vstore_half_rtz(v, 0, (half *)&bits);",
)
mutant(
    "ACC", "half-everywhere", "Every product and sum of 32 bits is rounded to float16.",
    "common", "#ifdef HALF\n", "#ifndef DOUBLE\n",
)

# --- naive_conv_transpose.cl -------------------------------------------------------------------------------------
mutant(
    "TRANSP", "transposed-padding-added", "Padding is added in front, where it takes outputs away.",
    "conv_transpose", "o + g->low[a]", "o - g->low[a]",
)
mutant(
    "TRANSP", "transposed-phase-not-tested", "Inputs between the stamps are read too.",
    "conv_transpose", "reach < 0 || reach % g->stride[a] != 0", "reach < 0",
)
mutant(
    "TRANSP", "transposed-dilation-ignored", "The kernel is taken for a dense one.",
    "conv_transpose", "k * g->dilation[a]", "k",
)
mutant(
    "TRANSP", "transposed-dilation-of-the-last-axis", "The last axis's dilation is used for every axis.",
    "conv_transpose", "k * g->dilation[a]", "k * g->dilation[2]",
)
mutant(
    "TRANSP", "transposed-stride-of-the-last-axis", "The last axis's stride is used for every axis.",
    "conv_transpose", "g->stride[a]", "g->stride[2]", times=2,
)
mutant(
    "TRANSP", "transposed-reads-one-more", "The upper bound of the input says i <= n.",
    "conv_transpose", "i < g->in_size[a]", "i <= g->in_size[a]",
)
mutant(
    "TRANSP", "transposed-weights-out-first", "Weights are taken to lie (out, in).",
    "conv_transpose", "filter[c * group_out * taps]", "filter[c * taps]", real="alibaba/MNN#951",
)
mutant(
    "FLIP", "transposed-flip-ignored", "`flip` is not read.",
    "conv_transpose", "(g->flip ? taps - 1 - tap : tap)", "tap",
)
mutant(
    "FLIP", "transposed-always-flipped", "The kernel is always read back to front.",
    "conv_transpose", "(g->flip ? taps - 1 - tap : tap)", "(taps - 1 - tap)",
)
mutant(
    "CHAN", "transposed-group-base-missing", "Every group reads the first group's channels.",
    "conv_transpose", "p.m / group_out * channels", "0",
)
mutant(
    "CHAN", "transposed-filter-of-the-first-output", "Every output of a group uses the filter of its first.",
    "conv_transpose", "p.m % group_out", "0",
)
mutant(
    "UNINIT", "transposed-sum-not-cleared", "The sum starts from what the output's buffer holds.",
    "conv_transpose", "TYPE sum = 0;", "TYPE sum = y[id];",
)
mutant(
    "EPILOGUE", "transposed-bias-ignored", "The bias is not read.",
    "conv_transpose", "g->has_bias ? rounded(sum + b[p.m]) : sum", "sum",
)
mutant(
    "HALO", "transposed-columns-not-tested", "A column that no input stamps is read: what precedes the row.",
    "conv_transpose", "if (i_w < 0)\n                    continue;", "",
)

# --- naive_avg_pool.cl, naive_max_pool.cl -----------------------------------------------------------------------
mutant(
    "DIVISOR", "padding-never-counted", "The low padding never counts in the divisor.",
    "avg_pool", "g->include_pad ? -g->low[a] : 0", "0",
)
mutant(
    "DIVISOR", "always-the-window", "The divisor is the window's size.",
    "avg_pool", "count += i >= low && i < end;", "++count;",
)
mutant(
    "DIVISOR", "overhang-counted", "The overhang of ceil_mode counts in the divisor.",
    "avg_pool", "g->in_size[a] + g->high[a] : g->in_size[a]", "LONG_MAX : g->in_size[a]", real="microsoft/onnxruntime#16203",
)
mutant(
    "DIVISOR", "divisor-of-the-other-axis", "The last axis takes the divisor of the one before.",
    "avg_pool", "divisor_of(p.o[2], 2, g)", "divisor_of(p.o[1], 1, g)",
)
mutant(
    "STRDIL", "avg-dilation-ignored", "The last axis of an average is taken for dense.",
    "avg_pool", "kw * g->dilation[2]", "kw",
)
mutant(
    "CHAN", "avg-of-the-first-channel", "The channel is not added to the address.",
    "avg_pool", "(p.n * g->in_channels + p.m)", "(p.n * g->in_channels)",
)
mutant(
    "HALO", "avg-columns-not-tested", "The column is not tested: left of the first lies the end of the row above.",
    "avg_pool", "if (i_w >= 0)", "if (1)",
)
mutant(
    "ACC", "mean-by-a-float-reciprocal", "The sum is multiplied by a reciprocal in float, that of doubles too.",
    "avg_pool", "sum / (TYPE)divisor", "sum * (TYPE)(1.0f / (float)divisor)",
)
mutant(
    "NAN", "max-starts-from-zero", "The running maximum starts from 0.",
    "max_pool", "int found = 0;", "int found = 1;",
)
mutant(
    "NAN", "max-swallows-nan", "A NaN that is not the window's first element is passed over.",
    "max_pool", " || v != v)", ")", kind="nonfinite", real="pytorch/pytorch#157237",
)
mutant(
    "NAN", "max-forgets-nan", "A NaN is taken, and replaced by the number after it.",
    "max_pool", "v > best || v != v", "!(v <= best)", kind="nonfinite",
)
mutant(
    "NAN", "min-for-max", "The smallest element is taken.",
    "max_pool", "v > best", "v < best",
)
mutant(
    "STRDIL", "max-dilation-ignored", "The last axis of a maximum is taken for dense.",
    "max_pool", "kw * g->dilation[2]", "kw",
)
mutant(
    "STRDIL", "max-stride-of-the-other-axis", "The last axis of a maximum takes the stride of the one before.",
    "max_pool", "p.o[2] * g->stride[2]", "p.o[2] * g->stride[1]",
)

# --- equivalent mutants: no input tells them from what they were made of, and no check may fail them ----------------
mutant(
    "TRANSP", "equivalent-negative-reach",
    # reach < 0 needs no test: reach % stride is 0 or negative in C; where it is 0, i = reach / stride < 0, which is
    # below in_size and returned; the callers treat every negative as "none", for they test i_d >= 0, i_h >= 0, i_w < 0.
    "A negative reach is not refused before the division, only after it.",
    "conv_transpose", "reach < 0 || reach % g->stride[a] != 0", "reach % g->stride[a] != 0", kind="equivalent",
)
mutant(
    "TRANSP", "equivalent-division-up",
    # Behind the test the stride divides reach >= 0, so that its quotient rounded up is its quotient.
    "The quotient by the stride is rounded up.",
    "conv_transpose", "reach / g->stride[a];", "(reach + g->stride[a] - 1) / g->stride[a];", kind="equivalent",
)
mutant(
    "NAN", "equivalent-ties",
    # v >= best differs from v > best where v == best: the same number, or zeros of two signs, which compare equal; and
    # IEEE 754-2019, 9.6, leaves the sign open for a maximum that does not order zeros.
    "A tie takes the later element.",
    "max_pool", "v > best", "v >= best", kind="equivalent",
)
