"""Libraries that others wrote, as backends: `convproof fuzz --backend docs/examples/outside_backends.py:scipy_signal`.

Each is imported when it is first called, and takes what its own documentation promises, no more.
"""

import itertools
from functools import lru_cache

import numpy as np

from harness.backend import Limits, from_function

#: What numpy.pad calls our padding modes.
PAD = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}


def padded(spec, x):
    """The input with its padding written out, or cropped where that is negative."""
    n = [slice(max(0, -lo), size - max(0, -hi)) for size, (lo, hi) in zip(spec.in_size, spec.padding, strict=True)]
    width = [(0, 0), (0, 0), *((max(0, lo), max(0, hi)) for lo, hi in spec.padding)]
    return np.pad(x[(..., *n)], width, PAD[spec.padding_mode])


def by_scipy(spec, x, w, b):
    """scipy.signal.correlate, a call for each pair of channels, summed outside it; direct, not by FFT."""
    from scipy.signal import convolve, correlate

    x, call = padded(spec, x), convolve if spec.flip else correlate
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    step = (..., *(slice(None, None, s) for s in spec.stride))
    y = np.zeros(spec.out_shape, x.dtype)
    for n, m, c in itertools.product(range(spec.batch), range(spec.out_channels), range(per_in)):
        y[n, m] += call(x[n, m // per_out * per_in + c], w[m, c], mode="valid", method="direct")[step]
    return y if b is None else y + b.reshape(-1, *(1,) * spec.rank)


def _larger_than_its_kernel(spec):
    """`mode="valid"` exchanges its operands where the second is the larger one: then nothing is promised."""
    fits = all(a.n + a.lo + a.hi >= a.extent for a in spec.axes)
    return None if fits else "the kernel is larger than the padded input"


def by_torch(spec, x, w, b):
    """torch.nn.functional: conv1d to conv3d and their transposes, max_pool and avg_pool."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    rank, x = spec.rank, torch.from_numpy(x if spec.op != "conv" else padded(spec, x))
    bias = None if b is None else torch.from_numpy(b)
    with torch.no_grad():
        if spec.op == "conv":
            call = getattr(functional, f"conv{rank}d")
            y = call(x, torch.from_numpy(w), bias, spec.stride, 0, spec.dilation, spec.groups)
        elif spec.op == "conv_transpose":
            call, low = getattr(functional, f"conv_transpose{rank}d"), tuple(a.lo for a in spec.axes)
            y = call(x, torch.from_numpy(w), bias, spec.stride, low, spec.output_padding, spec.groups, spec.dilation)
        elif spec.op == "max_pool":
            call, low = getattr(functional, f"max_pool{rank}d"), tuple(a.lo for a in spec.axes)
            y = call(x, spec.kernel_size, spec.stride, low, spec.dilation, spec.ceil_mode)
        else:
            call, low = getattr(functional, f"avg_pool{rank}d"), tuple(a.lo for a in spec.axes)
            y = call(x, spec.kernel_size, spec.stride, low, spec.ceil_mode, spec.count_include_pad)
    return y.numpy()


def _torch_takes(spec):
    """Its documented limits: symmetric padding of at most half the kernel for pools, no dilated average."""
    if spec.op != "conv" and any(a.lo != a.hi for a in spec.axes):
        return "its padding is the same on both sides"
    if spec.is_pool and any(2 * a.lo > a.m for a in spec.axes):
        return "the padding of its pools is at most half the kernel"
    if spec.op == "avg_pool" and spec.rank == 3 and any(a.m > a.n for a in spec.axes):
        return "its avg_pool3d refuses a kernel larger than the input without its padding (avg_pool1d and 2d do not)"
    if spec.op == "avg_pool" and max(spec.dilation) > 1:
        return "its avg_pool has no dilation"
    return None


def _model(spec):
    """An ONNX model of one node, as bytes. Padding is an attribute where ONNX has it, all low ends before all high ones."""
    from onnx import TensorProto, helper

    kind = {"f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16}[spec.in_dtype]
    pads = [*(a.lo for a in spec.axes), *(a.hi for a in spec.axes)]
    how = {"kernel_shape": list(spec.kernel_size), "strides": list(spec.stride), "pads": pads, "dilations": list(spec.dilation)}
    if spec.is_pool:
        how |= {"ceil_mode": int(spec.ceil_mode)}
        how |= {"count_include_pad": int(spec.count_include_pad)} if spec.op == "avg_pool" else {}
    else:
        how |= {"group": spec.groups}
        how |= {"output_padding": list(spec.output_padding)} if spec.op == "conv_transpose" else {}
    name = {"conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool", "avg_pool": "AveragePool"}[spec.op]
    shapes = {"x": spec.x_shape, "w": spec.w_shape, "b": spec.b_shape}
    given = {n: s for n, s in shapes.items() if s is not None}
    node = helper.make_node(name, list(given), ["y"], **how)
    inputs = [helper.make_tensor_value_info(n, kind, s) for n, s in given.items()]
    output = helper.make_tensor_value_info("y", kind, spec.out_shape)
    graph = helper.make_graph([node], "one", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return model.SerializeToString()


@lru_cache(64)
def _session(spec):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(_model(spec), options, providers=["CPUExecutionProvider"])


def by_onnxruntime(spec, x, w, b):
    """onnxruntime: a model of one node, Conv, ConvTranspose, MaxPool or AveragePool, on its CPU provider."""
    given = {name: a for name, a in (("x", x), ("w", w), ("b", b)) if a is not None}
    return _session(spec).run(["y"], given)[0]


def _onnx_takes(spec):
    """The padding of its pools is less than the kernel, dilation aside (core/providers/cpu/nn/pool_attributes.h)."""
    if spec.is_pool and any(max(a.lo, a.hi) >= a.m for a in spec.axes):
        return "the padding of its pools is less than the kernel"
    return None


scipy_signal = from_function(
    "scipy-signal",
    by_scipy,
    Limits(ops=("conv",), dtypes=("f32", "f64"), dilation=False, rule=_larger_than_its_kernel),
    deterministic=True,
)
torch_functional = from_function(
    "torch-functional", by_torch, Limits(dtypes=("f32", "f64"), flip=False, zero_batch=False, rule=_torch_takes)
)
onnx_runtime = from_function(
    "onnx-runtime",
    by_onnxruntime,
    Limits(dtypes=("f32",), padding_modes=("zeros",), flip=False, negative_padding=False, rule=_onnx_takes),
)
