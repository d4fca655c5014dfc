"""`onnxruntime`: ONNX Runtime's CPU provider on a model of one node, Conv, ConvTranspose, MaxPool or AveragePool.

The weights are an input of the model, as the contract has it: they may differ from call to call, so that none are packed
beforehand. Inputs and output are bound to the arrays, nothing is copied.
"""

from __future__ import annotations

import os
from importlib import import_module
from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from backends.libraries import Library, thread_count, version_of
from harness.backend import BackendInfo, Limits, Prepared, Unsupported
from harness.spec import ConvSpec

NODES = {"conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool", "avg_pool": "AveragePool"}
#: Versions of the operators and of the format; both older than what any supported ONNX Runtime refuses.
OPSET, IR = 22, 10


def _rule(spec: ConvSpec) -> str | None:
    """Pools with padding that is not less than the kernel."""
    # Before dilation: core/providers/cpu/nn/pool_attributes.h.
    if spec.is_pool and any(max(a.lo, a.hi) >= a.m for a in spec.axes):
        return "the padding of its pools is less than the kernel"
    return None


class OnnxRuntime(Library):
    """The backend object; see the contract in `harness.backend`."""

    info = BackendInfo(
        "onnxruntime",
        "ONNX Runtime on the processor: a model of one node",
        Limits(dtypes=("f32",), padding_modes=("zeros",), flip=False, negative_padding=False, rule=_rule),
        version=version_of("onnxruntime"),
    )
    modules = ("onnxruntime", "onnx")
    hint = "pip install onnxruntime onnx"

    def properties(self, *modules: Any) -> dict[str, str]:
        """Versions, and the threads of a session."""
        return super().properties(*modules) | {"threads": str(thread_count() or "its own choice")}

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """Blocked copies of all operands, or the columns of a matrix product."""
        sizes = prod(spec.x_shape) + prod(spec.w_shape or ()) + prod(spec.out_shape)
        columns = 0
        if not spec.is_pool:
            pixels = spec.in_size if spec.op == "conv_transpose" else spec.out_size
            channels = spec.out_channels if spec.op == "conv_transpose" else spec.in_channels
            columns = channels * prod(spec.kernel_size) * prod(pixels)
        return spec.in_type.itemsize * (2 * sizes + columns)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the model and its session."""
        if device != "cpu":
            raise Unsupported(f"backend 'onnxruntime' has no device {device!r}: its device is 'cpu'")
        try:
            runtime, onnx = (import_module(name) for name in self.modules)
        except ImportError as error:
            raise Unsupported(f"backend 'onnxruntime' needs onnxruntime and onnx ({error}): {self.hint}") from error
        return _Prepared(spec, _session(runtime, model(spec, onnx)))


backend = OnnxRuntime()


def model(spec: ConvSpec, onnx: Any) -> bytes:
    """A model of one node. ONNX lists the padding of all low ends before that of all high ones."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    pads = [*(a.lo for a in spec.axes), *(a.hi for a in spec.axes)]
    how: dict[str, Any] = {"kernel_shape": list(spec.kernel_size), "strides": list(spec.stride), "pads": pads}
    how |= {"dilations": list(spec.dilation)}
    if spec.is_pool:
        how |= {"ceil_mode": int(spec.ceil_mode)}
        how |= {"count_include_pad": int(spec.count_include_pad)} if spec.op == "avg_pool" else {}
    else:
        how |= {"group": spec.groups}
        how |= {"output_padding": list(spec.output_padding)} if spec.op == "conv_transpose" else {}
    shapes = {"x": spec.x_shape, "w": spec.w_shape, "b": spec.b_shape}
    given = {n: s for n, s in shapes.items() if s is not None}
    node = helper.make_node(NODES[spec.op], list(given), ["y"], **how)
    inputs = [helper.make_tensor_value_info(n, kind, s) for n, s in given.items()]
    output = helper.make_tensor_value_info("y", kind, spec.out_shape)
    graph = helper.make_graph([node], "one", inputs, [output])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return bytes(made.SerializeToString())


def _session(runtime: Any, made: bytes) -> Any:
    """A session with the harness's number of threads, which wait as the harness says."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = thread_count() or 0
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return runtime.InferenceSession(made, options, providers=["CPUExecutionProvider"])


class _Prepared:
    """One specification with its session."""

    def __init__(self, spec: ConvSpec, session: Any) -> None:
        self.spec, self._session = spec, session
        self.phases: dict[str, float] = {}

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Bind the arrays; run."""
        start = perf_counter()
        bound = self._session.io_binding()
        for name, a in (("x", x), ("w", w), ("b", b)):
            if a is not None:
                bound.bind_cpu_input(name, a)
        bound.bind_output("y", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
        self._session.run_with_iobinding(bound)
        self.phases = {"kernel": perf_counter() - start}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None
