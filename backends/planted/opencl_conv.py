"""Mutations of naive_conv.cl.

A table, laid out by hand: class, name, sentence; file, words, what stands for them.
"""

from __future__ import annotations

from backends.planted.opencl import mutant

# fmt: off
mutant(
    "CHAN", "group-is-modulo", "Output channel m reads group m % groups.",
    "conv", "p.m / (g->out_channels / g->groups) * channels", "p.m % g->groups * channels",
    real="openxla/xla#49123",
)
mutant(
    "CHAN", "group-base-missing", "Every group reads the first group's channels.",
    "conv", "p.m / (g->out_channels / g->groups) * channels", "0",
)
mutant(
    "CHAN", "filters-of-the-first-group", "Every group uses the first group's filters.",
    "conv", "w + p.m * channels * taps", "w + p.m % (g->out_channels / g->groups) * channels * taps",
)
mutant(
    "BATCH", "sample-pitch-of-a-group", "Samples stand one group's channels apart.",
    "conv", "(p.n * g->in_channels + first)", "(p.n * channels + first)",
)
mutant(
    "STRDIL", "dilation-ignored", "The last axis is taken for dense.",
    "conv", "kw * g->dilation[2]", "kw",
)
mutant(
    "STRDIL", "dilation-of-the-other-axis", "The last axis takes the dilation of the one before.",
    "conv", "kw * g->dilation[2]", "kw * g->dilation[1]", real="openvinotoolkit/openvino#11940",
)
mutant(
    "STRDIL", "stride-of-the-other-axis", "The last axis takes the stride of the one before.",
    "conv", "p.o[2] * g->stride[2]", "p.o[2] * g->stride[1]",
)
mutant(
    "STRDIL", "depth-stride-ignored", "The first of three axes has no stride.",
    "conv", "p.o[0] * g->stride[0]", "p.o[0]",
)
mutant(
    "PADASYM", "high-for-low", "The high padding of the last axis stands where the low one should.",
    "conv", "g->low[2] + kw", "g->high[2] + kw",
)
mutant(
    "PADASYM", "low-of-the-other-axis", "The last axis is padded as the one before.",
    "conv", "g->low[2] + kw", "g->low[1] + kw",
)
mutant(
    "HALO", "rows-not-padded", "The rows' low padding is left out.",
    "conv", "p.o[1] * g->stride[1] - g->low[1]", "p.o[1] * g->stride[1]",
)
mutant(
    "HALO", "columns-not-tested", "The column is not tested: left of the first lies the end of the row above.",
    "conv", "if (i_w < 0)\n                    continue;", "",
)
mutant(
    "HALO", "rows-not-tested", "The row is not tested: above the first lies what precedes the plane.",
    "conv", "kw < k_w && i_h >= 0", "kw < k_w",
)
mutant(
    "HALO", "depth-not-tested", "The plane is not tested: before the first lies the channel before.",
    "conv", "kh < k_h && i_d >= 0", "kh < k_h",
)
mutant(
    "HALO", "one-column-too-many", "Zero padding begins one column late: the first element of the next row is read.",
    "conv", "kw * g->dilation[2], in_w, mode)", "kw * g->dilation[2], in_w + (mode == ZEROS), mode)",
)
mutant(
    "FLIP", "flip-ignored", "`flip` is not read.",
    "conv", "(g->flip ? taps - 1 - tap : tap)", "tap",
)
mutant(
    "FLIP", "always-flipped", "The kernel is always read back to front.",
    "conv", "(g->flip ? taps - 1 - tap : tap)", "(taps - 1 - tap)",
)
mutant(
    "FLIP", "flip-one-off", "A flipped kernel is read from one element past its end.",
    "conv", "taps - 1 - tap", "taps - tap",
)
mutant(
    "FLIP", "flip-of-the-columns", "`flip` reverses the last axis alone.",
    "conv", "g->flip ? taps - 1 - tap : tap", "g->flip ? tap - kw + k_w - 1 - kw : tap",
)
mutant(
    "UNINIT", "sum-starts-from-the-output", "The sum starts from what the output's buffer holds.",
    "conv", "TYPE sum = 0;", "TYPE sum = y[id];", real="pytorch/pytorch#59439",
)
mutant(
    "UNINIT", "last-output-not-computed", "The bounds test of the work item is one short: the last output is not written.",
    "conv", "if (id >= output_elements(g))", "if (id >= output_elements(g) - 1)",
)
mutant(
    "TAIL", "channel-tail-dropped", "Channels go in fours; from 5 on those left over are not summed.",
    "conv", "c < channels;", "c < (channels > 4 ? channels & ~3L : channels);", real="pytorch/pytorch#21597",
)
mutant(
    "TAIL", "last-channel-twice", "The last of an odd number of channels is added twice.",
    "conv", "filter[c * taps] *", "(channels > 1 && channels % 2 > (c + 1 < channels) ? 2 : 1) * filter[c * taps] *",
)
mutant(
    "TAIL", "first-tap-skipped", "The row of 3 taps and more begins with the second.",
    "conv", "for (long kw = 0;", "for (long kw = k_w > 2;",
)
mutant(
    "RACE", "group-base-of-half-a-group", "A work group begins half a group after the last: the last outputs are not written.",
    "conv", "get_global_id(0)", "get_group_id(0) * (get_local_size(0) / 2) + get_local_id(0)",
)
mutant(
    "IDXOVF", "element-in-a-byte", "The offset of an element in its channel is kept in a byte.",
    "conv", "(i_d * in_h + i_h) * in_w + i_w;", "(uchar)((i_d * in_h + i_h) * in_w + i_w);",
)
mutant(
    "IDXOVF", "tap-in-four-bits", "The number of a tap is kept in 4 bits.",
    "conv", "const long tap = (kd * k_h + kh) * k_w + kw;", "const long tap = ((kd * k_h + kh) * k_w + kw) & 15;",
)
mutant(
    "IDXOVF", "work-item-in-ten-bits", "The work item's number is kept in 10 bits: what lies beyond is not written.",
    "conv", "const long id = get_global_id(0);", "const long id = get_global_id(0) & 1023;", real="pytorch/pytorch#96225",
)
mutant(
    "LAYOUT", "row-pitch-of-the-other-axis", "Element (i, j) is looked for at i H + j.",
    "conv", "(i_d * in_h + i_h) * in_w + i_w;", "(i_d * in_w + i_h) * in_h + i_w;",
)
mutant(
    "LAYOUT", "tap-pitch-of-the-other-axis", "Tap (i, j) is looked for at i H + j.",
    "conv", "(kd * k_h + kh) * k_w + kw", "(kd * k_w + kh) * k_h + kw",
)
mutant(
    "LAYOUT", "channel-pitch-of-a-plane", "Channels stand a plane apart, the depth left out.",
    "conv", "element[c * volume]", "element[c * in_h * in_w]",
)
mutant(
    "EPILOGUE", "bias-of-the-first-channel", "Every channel adds the first one's bias.",
    "conv", "b[p.m]", "b[0]",
)
mutant(
    "EPILOGUE", "bias-of-the-group", "Every group adds the first group's biases.",
    "conv", "b[p.m]", "b[p.m % (g->out_channels / g->groups)]",
)
mutant(
    "EPILOGUE", "bias-ignored", "The bias is not read.",
    "conv", "g->has_bias ? rounded(sum + b[p.m]) : sum", "sum",
)
mutant(
    "ACC", "products-in-float", "Products are formed in float, those of double too.",
    "conv", "filter[c * taps] * element[c * volume]", "(TYPE)((float)filter[c * taps] * (float)element[c * volume])",
)
mutant(
    "ACC", "sums-in-float", "Sums are kept in float, those of double and of bytes too.",
    "conv", "TYPE sum = 0;", "float sum = 0;",
)
