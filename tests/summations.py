"""Right and wrong ways to sum the products of a 1-D, one-group convolution, for measuring bounds against.

Each takes the windows (outputs, K) and the taps (K,), both in the input's type, and a bias, and returns the
outputs in the accumulator's type. No way shares code with the oracle.
"""

import numpy as np


def windows(x, taps):
    """(outputs, K) of x (channels, n): what each output reads, channel by channel."""
    return np.lib.stride_tricks.sliding_window_view(x, taps, axis=1).transpose(1, 0, 2).reshape(x.shape[1] - taps + 1, -1)


def running(p):
    return np.add.accumulate(p, axis=1, dtype=p.dtype)[:, -1]


def sequential(v, w, b):
    return running(v * w) + b


def bias_first(v, w, b):
    p = v * w
    return running(np.concatenate([np.full_like(p[:, :1], b), p], 1))


def backwards(v, w, b):
    return running((v * w)[:, ::-1]) + b


def pairwise(v, w, b):
    p = v * w
    while p.shape[1] > 1:
        odd = p[:, -1:] if p.shape[1] % 2 else p[:, :0]
        p = np.concatenate([p[:, 0 : p.shape[1] // 2 * 2 : 2] + p[:, 1::2], odd], 1)
    return p[:, 0] + b


def lanes(v, w, b):
    """Eight partial sums, as a vector unit keeps them."""
    p = v * w
    parts = np.stack([running(p[:, i::8]) if i < p.shape[1] else np.zeros_like(p[:, 0]) for i in range(8)], 1)
    return running(parts) + b


def blocked(v, w, b):
    p = v * w
    parts = np.stack([running(p[:, i : i + 32]) for i in range(0, p.shape[1], 32)], 1)
    return running(parts) + b


def fused(v, w, b):
    """Products are not rounded before they are added."""
    s = np.zeros(len(v), v.dtype)
    for k in range(v.shape[1]):
        s = (s.astype(np.float64) + v[:, k].astype(np.float64) * float(w[k])).astype(v.dtype)
    return s + b


def gemm(v, w, b):
    return (v @ w) + b


def shuffled(v, w, b):
    order = np.random.default_rng(1).permutation(v.shape[1])
    return running((v * w)[:, order]) + b


RIGHT = (sequential, bias_first, backwards, pairwise, lanes, blocked, fused, gemm, shuffled)


def cut(a, bits):
    """`a` rounded to `bits` significant bits."""
    m, e = np.frexp(a.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(m, bits)), e - bits).astype(a.dtype)


def tf32(v, w, b):
    return gemm(cut(v, 11), cut(w, 11), b)


def bfloat16_products(v, w, b):
    return gemm(cut(v, 8), cut(w, 8), b)


def float16_sums(v, w, b):
    s = np.zeros(len(v), np.float16)
    for k in range(v.shape[1]):
        s = (s.astype(np.float32) + v[:, k].astype(np.float32) * np.float32(w[k])).astype(np.float16)
    return s.astype(v.dtype) + b


def bfloat16_sums(v, w, b):
    s = np.zeros(len(v), np.float32)
    for k in range(v.shape[1]):
        s = cut(s + v[:, k].astype(np.float32) * np.float32(w[k]), 8)
    return s.astype(v.dtype) + b


def float32_sums(v, w, b):
    """Wrong where the accumulator is float64."""
    return (sequential(v.astype(np.float32), w.astype(np.float32), np.float32(0))).astype(v.dtype) + b


NARROW = (tf32, bfloat16_products, float16_sums, bfloat16_sums)
