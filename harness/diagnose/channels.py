"""Hypotheses about channels: which are read, in which order and group, and which bias is added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from harness.diagnose.evidence import Evidence, Values
from harness.diagnose.hypothesis import Variant, hypothesis

#: Blocks of channels whose remainder may be lost.
BLOCKS = (2, 4, 8, 16, 32, 64)


@hypothesis("group_map")
def group_map(e: Evidence) -> Iterator[Variant]:
    """Channels are assigned to other groups."""
    spec, g = e.spec, e.spec.groups
    if g == 1 or spec.is_pool:
        return
    per, out = spec.in_channels // g, spec.out_channels // g
    m, c = np.arange(spec.out_channels)[:, None], np.arange(per)
    for words, channels in (
        ("output channel m in group m mod groups", m % g * per + c),
        ("every group reading group 0's input", np.broadcast_to(c, e.model.channels.shape)),
        ("groups reading the input in reverse order", (g - 1 - m // out) * per + c),
        ("groups reading the input of the next", (m // out + 1) % g * per + c),
        ("groups reading interleaved input channels", c * g + m // out),
        ("groups reading the input from channel m on", (m + c) % spec.in_channels),
        ("groups one channel apart in the input", m // out + c),
    ):
        yield words, replace(e.model, channels=np.asarray(channels))
    w = e.model.w
    assert w is not None
    for words, rows in (
        ("weights of group 0 for every group", m[:, 0] % out),
        ("weights interleaved over the groups", m[:, 0] % g * out + m[:, 0] // g),
        ("weights of the groups in reverse order", (g - 1 - m[:, 0] // out) * out + m[:, 0] % out),
    ):
        yield words, replace(e.model, w=w[rows])
    yield "groups written interleaved", Values(e.right[:, m[:, 0] % out * g + m[:, 0] // out])
    yield "groups read interleaved from the output", Values(e.right[:, m[:, 0] % g * out + m[:, 0] // g])


@hypothesis("channel_order")
def channel_order(e: Evidence) -> Iterator[Variant]:
    """Channels are in another order."""
    for words, order in _orders(e.model.channels.shape[1]):
        yield f"input channels {words}", replace(e.model, channels=e.model.channels[:, order])
    for words, order in _orders(e.spec.out_channels):
        yield f"output channels {words}", Values(e.right[:, order])
        if e.model.w is not None:
            yield f"filters {words}, biases in place", replace(e.model, w=e.model.w[order])


def _orders(n: int) -> Iterator[tuple[str, np.ndarray]]:
    i = np.arange(n)
    if n == 1:
        return
    yield "in reverse order", i[::-1]
    for by in (1, -1, 2, -2, 4, -4, 8, -8)[: 2 * (n - 1)]:
        yield f"rolled by {by}", np.roll(i, by)
    for low in range(n - 1) if n <= 16 else ():
        order = i.copy()
        order[[low, low + 1]] = order[[low + 1, low]]
        yield f"{low} and {low + 1} exchanged", order
    if n > 2:
        ends = i.copy()
        ends[[0, -1]] = ends[[-1, 0]]
        yield "first and last exchanged", ends
    if n % 2 == 0:
        yield "exchanged in pairs", i ^ 1
    for k in range(2, n):
        if n % k == 0:
            yield f"interleaved by {k}", i.reshape(k, -1).T.reshape(-1)
    yield "all the first one", np.zeros(n, int)


@hypothesis("channels_dropped")
def channels_dropped(e: Evidence) -> Iterator[Variant]:
    """Some input channels are not summed."""
    w = e.model.w
    if w is None or w.shape[1] == 1:
        return
    per = w.shape[1]
    i = np.arange(per)
    lost: dict[str, np.ndarray] = {"the last input channel": i == per - 1, "input channel 0": i == 0}
    for v in BLOCKS:
        if per % v and per > v:
            lost[f"input channels beyond the last whole block of {v}"] = i >= per // v * v
        if per > v:
            lost[f"input channels from {v} on"] = i >= v
        lost[f"all input channels but one in {v}"] = i % v != 0
    lost["all input channels but the first"] = i > 0
    lost["odd input channels"] = i % 2 == 1
    lost["even input channels"] = i % 2 == 0
    for c in range(1, per - 1) if per <= 16 else ():
        lost[f"input channel {c}"] = i == c
    for words, out in lost.items():
        yield f"{words} left out" + (" of every group" if e.spec.groups > 1 else ""), replace(e.model, w=_without(w, out))


@hypothesis("channels_repeated")
def channels_repeated(e: Evidence) -> Iterator[Variant]:
    """Some input channels are summed twice."""
    w = e.model.w
    if w is None:
        return
    per = w.shape[1]
    i = np.arange(per)
    for words, twice in (
        ("every input channel", i >= 0),
        ("the last input channel", i == per - 1),
        ("input channel 0", i == 0),
        *((f"the last {v} input channels", i >= per - v) for v in BLOCKS if v < per),
        *((f"input channels beyond the last whole block of {v}", i >= per // v * v) for v in BLOCKS if per % v and v < per),
    ):
        yield f"{words} summed twice", replace(e.model, w=w + np.where(twice.reshape(1, -1, *(1,) * (w.ndim - 2)), w, 0.0))


def _without(w: np.ndarray, channels: np.ndarray) -> np.ndarray:
    return np.where(channels.reshape(1, -1, *(1,) * (w.ndim - 2)), 0.0, w)


@hypothesis("channels_compacted")
def channels_compacted(e: Evidence) -> Iterator[Variant]:
    """Zeros are skipped, and what is left meets the wrong partner."""
    x, w = e.model.x, e.model.w
    if w is None:
        return
    live = np.flatnonzero(x.any((0, *range(2, x.ndim))))
    if len(live) < x.shape[1]:
        packed = np.zeros_like(x)
        packed[:, : len(live)] = x[:, live]
        yield "input channels that are all zero skipped, and the rest paired with the first weights", e.model.on(packed)
    assert e.ops.w is not None
    raw = e.ops.w.astype(np.float64)
    dead = np.flatnonzero(raw.any((0, *range(2, raw.ndim))))
    if len(dead) < raw.shape[1]:
        packed = np.zeros_like(raw)
        packed[:, : len(dead)] = raw[:, dead]
        yield "weights of input channels that are all zero skipped, and the rest moved up", e.model.weighted(packed)
    if not np.all(raw):
        for limit in (16, 256, 32, 64, 128, 8, 4):
            yield f"runs of zero weights counted modulo {limit}", e.model.weighted(_short_runs(raw, limit))


def _short_runs(w: np.ndarray, limit: int) -> np.ndarray:
    packed = np.zeros_like(w)
    for row, into in zip(w.reshape(len(w), -1), packed.reshape(len(w), -1), strict=True):
        at = np.flatnonzero(row)
        into[np.cumsum((np.diff(at, prepend=-1) - 1) % limit + 1) - 1] = row[at]
    return packed


@hypothesis("bias_ignored")
def bias_ignored(e: Evidence) -> Iterator[Variant]:
    """The bias is not added."""
    if e.model.bias is not None:
        yield "the bias left out", replace(e.model, bias=None)


@hypothesis("bias_sign")
def bias_sign(e: Evidence) -> Iterator[Variant]:
    """The bias is subtracted."""
    if e.model.bias is not None:
        yield "the bias subtracted", replace(e.model, bias=-e.model.bias)


@hypothesis("bias_twice")
def bias_twice(e: Evidence) -> Iterator[Variant]:
    """The bias is added several times."""
    if e.model.bias is None:
        return
    counts = {2, 3, 4, e.spec.groups, e.spec.channel_taps, e.spec.batch, prod(e.spec.kernel_size)}
    for k in sorted(counts - {0, 1}):
        yield f"the bias added {'twice' if k == 2 else f'{k} times'}", replace(e.model, bias=k * e.model.bias)
    yield "the bias added once a tap that reads data", _per_tap(e)


def _per_tap(e: Evidence) -> Values:
    assert e.model.bias is not None
    ones = replace(e.model.on(np.ones_like(e.model.x)), bias=None)
    if e.model.w is not None:
        ones = replace(ones, w=np.ones_like(e.model.w))
    counts = ones.at(e.points).reshape(e.out.shape)
    bias = e.model.bias.reshape(1, -1, *(1,) * e.spec.rank)
    return Values(e.right - bias + counts * bias)


@hypothesis("bias_channel")
def bias_channel(e: Evidence) -> Iterator[Variant]:
    """Another channel's bias is added."""
    b = e.model.bias
    if b is None or len(b) == 1:
        return
    m, out = np.arange(len(b)), len(b) // e.spec.groups
    for words, index in (
        ("m mod (channels a group)", m % out),
        ("0 for every channel", 0 * m),
        ("m mod groups", m % e.spec.groups),
        ("m div (channels a group)", m // out),
        ("m + 1", (m + 1) % len(b)),
        ("m - 1", m - 1),
        ("in reverse order", m[::-1]),
        ("the last for every channel", 0 * m - 1),
    ):
        yield f"bias {words}", replace(e.model, bias=b[index])
    yield "the sum of all biases", replace(e.model, bias=np.full_like(b, b.sum()))
