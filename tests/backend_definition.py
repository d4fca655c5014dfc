"""The definition of every operation in plain NumPy, and the specifications on which backends are held against it.

Written from DESIGN section 2 and NUMERICS "Semantics", sharing nothing with any backend: padding is
numpy's, windows are strided slices, a transposed convolution scatters into a full buffer and is cropped.
Values are float64 or int64, so that small integers come out exactly.
"""

import numpy as np

from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

NUMPY_MODES = {"circular": "wrap", "reflect": "reflect", "replicate": "edge"}


def define(spec, x, w=None, b=None):
    """The output of `spec` before its last rounding."""
    wide = np.int64 if spec.acc_dtype in ("i8", "i32") else np.float64
    x, w, b = (None if a is None else a.astype(wide) for a in (x, w, b))
    if w is not None and spec.flip:
        w = np.flip(w, tuple(range(2, 2 + spec.rank)))
    y = {"conv": _conv, "conv_transpose": _transpose, "max_pool": _max_pool, "avg_pool": _avg_pool}[spec.op](spec, x, w)
    if b is not None:
        y = y + b.reshape(-1, *(1,) * spec.rank)
    assert y.shape == spec.out_shape
    return y


def rounded(spec, y):
    """`y` in the output's type; through the accumulator's, as the specification says."""
    return y.astype(numpy_dtype(spec.acc_dtype)).astype(numpy_dtype(spec.out_dtype))


def integers(spec, seed=0, most=2):
    """Operands of small integers, exact in every type."""
    rng = np.random.default_rng(seed)
    return operands(spec, lambda shape: rng.integers(-most, most + 1, shape))


def reals(spec, seed=0):
    """Operands of random sign and magnitude in [1, 2)."""
    rng = np.random.default_rng(seed)
    return operands(spec, lambda shape: rng.uniform(1, 2, shape) * rng.choice([-1, 1], shape))


def operands(spec, fill):
    x, w, b = (None if s is None else fill(s) for s in (spec.x_shape, spec.w_shape, spec.b_shape))
    kinds = (spec.in_dtype, spec.in_dtype, spec.acc_dtype)
    return [None if a is None else np.asarray(a).astype(numpy_dtype(k)) for a, k in zip((x, w, b), kinds, strict=True)]


def run(backend, device, spec, x, w=None, b=None):
    """What the backend writes into a poisoned output, between guard bands, from read-only operands."""
    kind = numpy_dtype(spec.out_dtype)
    size, guard = int(np.prod(spec.out_shape)), 64
    whole = np.full((size + 2 * guard) * kind.itemsize, 0xA5, np.uint8).view(kind)
    out = whole[guard : guard + size].reshape(spec.out_shape)
    for a in (x, w, b):
        if a is not None:
            a.flags.writeable = False
    with backend.prepare(spec, device) as prepared:
        assert prepared.run(x, w, b, out) is None
    poison = np.full(guard * kind.itemsize, 0xA5, np.uint8)
    for band in (whole[:guard], whole[guard + size :]):
        np.testing.assert_array_equal(band.view(np.uint8), poison)
    return out


def _slices(spec, k, out):
    return tuple(
        slice(i * d, i * d + (o - 1) * s + 1, s) for i, d, o, s in zip(k, spec.dilation, out, spec.stride, strict=True)
    )


def _sizes(spec):
    return tuple(
        (n + lo + hi - d * (m - 1) - 1) // s + 1
        for n, (lo, hi), d, m, s in zip(spec.in_size, spec.padding, spec.dilation, spec.kernel_size, spec.stride, strict=True)
    )


def _conv(spec, x, w):
    out = _sizes(spec)
    crop = tuple(slice(max(0, -lo), n - max(0, -hi)) for n, (lo, hi) in zip(spec.in_size, spec.padding, strict=True))
    pads = ((0, 0), (0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in spec.padding))
    x = x[(slice(None), slice(None), *crop)]
    x = np.pad(x, pads) if spec.padding_mode == "zeros" else np.pad(x, pads, NUMPY_MODES[spec.padding_mode])
    y = np.zeros((spec.batch, spec.out_channels, *out), x.dtype)
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    for m in range(spec.out_channels):
        for c in range(per_in):
            for k in np.ndindex(*spec.kernel_size):
                window = x[(slice(None), m // per_out * per_in + c, *_slices(spec, k, out))]
                y[:, m] += w[(m, c, *k)] * window
    return y


def _transpose(spec, x, w):
    full = [
        max((n - 1) * s + d * (m - 1) + 1 + op, lo + o)
        for n, s, d, m, op, (lo, _), o in zip(
            spec.in_size,
            spec.stride,
            spec.dilation,
            spec.kernel_size,
            spec.output_padding,
            spec.padding,
            spec.out_size,
            strict=True,
        )
    ]
    y = np.zeros((spec.batch, spec.out_channels, *full), x.dtype)
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    for c in range(spec.in_channels):
        for m in range(per_out):
            for k in np.ndindex(*spec.kernel_size):
                place = (slice(None), c // per_in * per_out + m, *_slices(spec, k, spec.in_size))
                y[place] += w[(c, m, *k)] * x[:, c]
    low = [lo for lo, _ in spec.padding]
    sizes = [
        (n - 1) * s - lo - hi + d * (m - 1) + 1 + op
        for n, s, d, m, op, (lo, hi) in zip(
            spec.in_size, spec.stride, spec.dilation, spec.kernel_size, spec.output_padding, spec.padding, strict=True
        )
    ]
    return y[(slice(None), slice(None), *(slice(lo, lo + o) for lo, o in zip(low, sizes, strict=True)))]


def _ends(spec):
    """Positions of each padded axis up to the last that a tap reads."""
    axes = zip(spec.out_size, spec.stride, spec.dilation, spec.kernel_size, strict=True)
    return [(o - 1) * s + d * (m - 1) + 1 for o, s, d, m in axes]


def _windows(spec, x, fill):
    """Every tap's elements, stacked in front; the padding and the overhang hold `fill`."""
    ends = _ends(spec)
    pads = [(lo, max(0, e - n - lo)) for (lo, _), e, n in zip(spec.padding, ends, spec.in_size, strict=True)]
    x = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)
    return np.stack([x[(slice(None), slice(None), *_slices(spec, k, spec.out_size))] for k in np.ndindex(*spec.kernel_size)])


def _max_pool(spec, x, _):
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(np.int64).min
    return _windows(spec, x, lowest).max(0)


def _avg_pool(spec, x, _):
    counted = np.ones_like(x)
    if spec.count_include_pad:
        counted = np.pad(counted, ((0, 0), (0, 0), *spec.padding), constant_values=1)
        lengths = zip(_ends(spec), counted.shape[2:], strict=True)
        overhang = [(0, max(0, end - length)) for end, length in lengths]
        counted = np.pad(counted, ((0, 0), (0, 0), *overhang))
        taps = np.ndindex(*spec.kernel_size)
        count = sum(counted[(slice(None), slice(None), *_slices(spec, k, spec.out_size))] for k in taps)
    else:
        count = _windows(spec, counted, 0).sum(0)
    # The quotient is rounded to the accumulator's type here: `rounded` would round float64's once more.
    kind = numpy_dtype(spec.acc_dtype)
    return (_windows(spec, x, 0).sum(0).astype(kind) / count.astype(kind)).astype(np.float64)


def _spec(op, n, k, **rest):
    return ConvSpec(op, n, k, **rest)


def _same(rank, lo=1, hi=1):
    return ((lo, hi),) * rank


SHAPES = {
    # one axis
    "1d-plain": _spec("conv", (9,), (3,)),
    "1d-flip": _spec("conv", (9,), (4,), flip=True, in_channels=2, out_channels=3),
    "1d-same-lower": _spec("conv", (7,), (4,), padding=((2, 1),)),
    "1d-stride-dilation": _spec("conv", (23,), (4,), stride=(3,), dilation=(2,), padding=((2, 5),), bias=True),
    "1d-stride-exceeds-kernel": _spec("conv", (17,), (2,), stride=(5,)),
    "1d-kernel-exceeds-input": _spec("conv", (3,), (7,), padding=((5, 4),)),
    "1d-crop": _spec("conv", (13,), (3,), padding=((-2, -3),)),
    "1d-crop-and-pad": _spec("conv", (11,), (3,), padding=((-3, 4),), stride=(2,)),
    "1d-circular-whole": _spec("conv", (5,), (3,), padding=((5, 5),), padding_mode="circular"),
    "1d-reflect-whole": _spec("conv", (5,), (4,), padding=((4, 3),), padding_mode="reflect", dilation=(2,)),
    "1d-replicate-far": _spec("conv", (3,), (3,), padding=((7, 9),), padding_mode="replicate"),
    "1d-single-element": _spec("conv", (1,), (1,), bias=True),
    "1d-tail": _spec("conv", (67,), (3,), in_channels=6, out_channels=5, padding=((1, 1),), bias=True),
    # two axes
    "2d-plain": _spec("conv", (5, 8), (3, 2), in_channels=2, out_channels=3),
    "2d-bias-batch": _spec("conv", (6, 5), (3, 3), batch=3, in_channels=4, out_channels=2, bias=True, padding=_same(2)),
    "2d-asymmetric": _spec("conv", (7, 10), (3, 5), stride=(2, 3), padding=((0, 2), (3, 1)), in_channels=3, out_channels=4),
    "2d-dilation": _spec("conv", (9, 12), (3, 2), dilation=(2, 5), padding=((2, 1), (0, 3)), out_channels=2),
    "2d-groups": _spec("conv", (6, 7), (3, 2), in_channels=6, out_channels=9, groups=3, bias=True),
    "2d-depthwise": _spec("conv", (6, 9), (3, 3), in_channels=5, out_channels=5, groups=5, padding=_same(2), stride=(1, 2)),
    "2d-depthwise-multiplier": _spec("conv", (5, 6), (2, 3), in_channels=3, out_channels=6, groups=3, flip=True),
    "2d-pointwise": _spec("conv", (4, 9), (1, 1), in_channels=17, out_channels=3, stride=(2, 1)),
    "2d-flip": _spec("conv", (6, 8), (3, 2), flip=True, in_channels=2, out_channels=2, stride=(1, 2), dilation=(2, 1)),
    "2d-circular": _spec("conv", (5, 7), (3, 4), padding=((1, 2), (3, 0)), padding_mode="circular", in_channels=2),
    "2d-reflect": _spec("conv", (5, 7), (3, 4), padding=((2, 1), (0, 3)), padding_mode="reflect", stride=(2, 1)),
    "2d-replicate": _spec(
        "conv", (5, 7), (3, 4), padding=((2, 4), (1, 3)), padding_mode="replicate", groups=2, in_channels=4, out_channels=2
    ),
    "2d-crop": _spec("conv", (8, 9), (3, 3), padding=((-1, 2), (1, -3)), in_channels=2, out_channels=2),
    "2d-output-in-padding": _spec("conv", (2, 3), (2, 2), padding=((4, 4), (5, 3)), bias=True, stride=(3, 2)),
    "2d-empty-batch": _spec("conv", (5, 4), (3, 3), batch=0, bias=True),
    # three axes
    "3d-plain": _spec("conv", (4, 5, 6), (2, 3, 2), in_channels=2, out_channels=3),
    "3d-all": _spec(
        "conv", (5, 6, 7), (3, 2, 3), batch=2, in_channels=4, out_channels=6, groups=2, stride=(2, 1, 3), dilation=(1, 3, 2),
        padding=((1, 0), (2, 3), (4, 1)), bias=True, flip=True,
    ),
    "3d-circular": _spec("conv", (3, 4, 5), (2, 3, 3), padding=((1, 0), (0, 2), (3, 1)), padding_mode="circular"),
    "3d-reflect": _spec("conv", (3, 4, 5), (2, 3, 3), padding=((2, 0), (0, 3), (1, 4)), padding_mode="reflect"),
    # transposed
    "t1d-stride": _spec("conv_transpose", (5,), (3,), stride=(2,), bias=True),
    "t1d-holes": _spec("conv_transpose", (4,), (2,), stride=(5,), output_padding=(3,), bias=True),
    "t1d-flip": _spec("conv_transpose", (6,), (4,), padding=((2, 1),), flip=True, in_channels=2, out_channels=3),
    "t2d-output-padding": _spec(
        "conv_transpose", (4, 3), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 2),
        in_channels=2, out_channels=3,
    ),
    "t2d-groups": _spec("conv_transpose", (3, 5), (3, 2), in_channels=6, out_channels=4, groups=2, stride=(1, 2), bias=True),
    "t2d-dilation": _spec("conv_transpose", (4, 5), (3, 3), dilation=(3, 2), stride=(2, 1), padding=((3, 2), (1, 4)), batch=2),
    "t2d-negative": _spec("conv_transpose", (4, 5), (3, 2), padding=((5, 0), (0, 3)), stride=(3, 2)),
    "t2d-empty-batch": _spec("conv_transpose", (4, 5), (3, 2), batch=0),
    "t3d-all": _spec(
        "conv_transpose", (3, 2, 4), (2, 3, 3), batch=2, in_channels=4, out_channels=6, groups=2, stride=(2, 1, 3),
        dilation=(1, 2, 2), padding=((0, 1), (2, 1), (1, 3)), output_padding=(1, 0, 2), bias=True, flip=True,
    ),
    # pools
    "max-1d": _spec("max_pool", (11,), (3,), stride=(2,), in_channels=2),
    "max-2d-asymmetric": _spec("max_pool", (7, 9), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), in_channels=3, batch=2),
    "max-2d-dilation": _spec("max_pool", (9, 10), (2, 3), dilation=(3, 2), padding=((1, 1), (1, 2))),
    "max-2d-ceil": _spec("max_pool", (6, 7), (3, 2), stride=(2, 2), ceil_mode=True),
    "max-3d": _spec("max_pool", (4, 5, 6), (2, 3, 2), stride=(1, 2, 3), padding=((0, 1), (1, 1), (1, 0)), ceil_mode=True),
    "max-empty-batch": _spec("max_pool", (4, 5), (2, 2), batch=0),
    "avg-1d": _spec("avg_pool", (11,), (3,), stride=(2,), padding=((1, 1),), in_channels=2),
    "avg-2d": _spec("avg_pool", (7, 9), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), in_channels=3, batch=2),
    "avg-2d-include": _spec("avg_pool", (7, 9), (3, 3), stride=(2, 2), padding=((1, 2), (0, 1)), count_include_pad=True),
    "avg-2d-ceil": _spec("avg_pool", (6, 7), (3, 4), stride=(2, 3), padding=((1, 1), (2, 0)), ceil_mode=True),
    "avg-2d-ceil-include": _spec(
        "avg_pool", (6, 8), (3, 4), stride=(2, 3), padding=((1, 1), (2, 0)), ceil_mode=True, count_include_pad=True
    ),
    "avg-2d-dilation": _spec("avg_pool", (9, 8), (3, 2), dilation=(2, 4), padding=((1, 2), (2, 1)), count_include_pad=True),
    "avg-3d": _spec("avg_pool", (4, 5, 6), (3, 2, 3), stride=(2, 1, 2), padding=((1, 1), (0, 1), (1, 0))),
}  # fmt: skip

TRIPLES = [
    "f64/f64/f64",
    "f16/f32/f16",
    "f16/f16/f16",
    "f16/f32/f32",
    "bf16/f32/bf16",
    "bf16/f32/f32",
    "f32/f64/f32",
    "i8/i32/i32",
]


def typed():
    """Specifications of every element type and operation that has a meaning."""
    found = {}
    for name in ("2d-groups", "2d-reflect", "3d-all", "t2d-output-padding", "t3d-all", "avg-2d-ceil", "avg-2d-include"):
        for triple in TRIPLES:
            shape = SHAPES[name]
            if shape.op != "avg_pool" or triple != "i8/i32/i32":
                kinds = dict(zip(("in_dtype", "acc_dtype", "out_dtype"), triple.split("/"), strict=True))
                found[f"{name}-{triple}"] = ConvSpec.from_dict({**shape.to_dict(), **kinds})
    for kind in ("f64", "f16", "bf16", "i8"):
        kinds = dict.fromkeys(("in_dtype", "acc_dtype", "out_dtype"), kind)
        found[f"max-2d-asymmetric-{kind}"] = ConvSpec.from_dict({**SHAPES["max-2d-asymmetric"].to_dict(), **kinds})
    return found


SPECS = {**SHAPES, **typed()}
