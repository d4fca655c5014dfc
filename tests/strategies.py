"""Hypothesis strategies that other tests share: small specifications of every op, mode and dtype.

`FUZZ=20 pytest tests/test_oracle.py` draws twenty times as many examples, at random.
"""

import os

from hypothesis import HealthCheck, reject, settings
from hypothesis import strategies as st

from harness.spec import ConvSpec, SpecError
from harness.spec.convspec import DTYPE_TRIPLES, OPS

FLOAT_TRIPLES = tuple(t for t in DTYPE_TRIPLES if t[0] != "i8")

FUZZ = int(os.environ.get("FUZZ", "0"))


def examples(n):
    """Settings for `n` examples, the same ones every time unless fuzzing."""
    return settings(
        max_examples=n * max(FUZZ, 1),
        deadline=None,
        derandomize=not FUZZ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def specs(draw, ops=OPS, triples=DTYPE_TRIPLES, most=300, bias=None):
    """A valid specification of at most `most` outputs and `most` inputs, of any op in `ops` and types in `triples`."""
    op = draw(st.sampled_from(ops))
    rank = draw(st.integers(1, 3))
    sizes = st.integers(1, (12, 7, 4)[rank - 1])
    few = st.integers(1, (5, 3, 2)[rank - 1])
    pool = op in ("max_pool", "avg_pool")
    mode = draw(st.sampled_from(("zeros", "zeros", "circular", "reflect", "replicate"))) if op == "conv" else "zeros"
    least = -2 if op == "conv" and mode == "zeros" else 0
    axes = []
    for _ in range(rank):
        n, m, s, d = draw(sizes), draw(few), draw(few), draw(st.sampled_from((1, 1, 2, 3)))
        widest = {"reflect": n - 1, "circular": n}.get(mode, (m - 1) * d if pool else 4)
        pad = st.integers(min(least, widest), min(widest, 6))
        axes.append((n, m, s, d, (draw(pad), draw(pad)), draw(st.integers(0, s - 1)) if op == "conv_transpose" else 0))
    n, m, s, d, pads, extra = zip(*axes, strict=True)
    groups = 1 if pool else draw(st.sampled_from((1, 1, 2, 3)))
    channels = groups * draw(st.integers(1, 3))
    types = draw(st.sampled_from(triples))
    if op == "max_pool":
        types = (types[0],) * 3
    elif op == "avg_pool" and types[0] == "i8":
        types = ("f32", "f32", "f32")
    try:
        spec = ConvSpec(
            op,
            n,
            m,
            batch=draw(st.sampled_from((1, 1, 2))),
            in_channels=channels,
            out_channels=channels if pool else groups * draw(st.integers(1, 3)),
            stride=s,
            padding=pads,
            padding_mode=mode,
            dilation=d,
            groups=groups,
            output_padding=extra,
            bias=False if pool else draw(st.booleans()) if bias is None else bias,
            flip=False if pool else draw(st.booleans()),
            ceil_mode=draw(st.booleans()) if pool else False,
            count_include_pad=draw(st.booleans()) if op == "avg_pool" else False,
            in_dtype=types[0],
            acc_dtype=types[1],
            out_dtype=types[2],
        )
    except SpecError:
        reject()
    if count(spec.out_shape) > most or count(spec.x_shape) > most:
        reject()
    return spec


def count(shape):
    """Elements of an array of this shape."""
    total = 1
    for n in shape:
        total *= n
    return total
