"""The contract between the harness and a backend: the records it fills and the two protocols.

This module and `harness.spec` are all that a backend imports. The contract carries a version;
the rule is that of semantic versioning: a backend written for MAJOR.MINOR runs on a harness whose
contract has the same MAJOR and the same MINOR or a later one.

Operands are positional: `run(x, w, b, out)`. Each op names the arrays that stand there (its
`x_shape`, `w_shape`, `b_shape` and `out_shape`), so that an op whose operands mean something
else (the gradients, say) adds a row to the specification and no method here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from harness.spec import ConvSpec, default_types

if TYPE_CHECKING:
    import numpy as np

CONTRACT_VERSION = (1, 0)
#: Memory layouts of operands, see `BackendInfo.layouts`.
LAYOUTS = ("C", "F", "strided", "negative", "unaligned")


class Unsupported(Exception):
    """`prepare` found that it cannot do this specification on this device; the reason is the message."""


class ContractError(Exception):
    """A backend broke the contract (wrong shape, wrong type, an alias of its input): a FAIL, not an ERROR."""


@dataclass(frozen=True)
class AlgorithmClass:
    """What the rounding errors of an implementation look like, and so which bound judges it.

    Attributes
    ----------
    kind : {'direct', 'fft', 'winograd'}
        `direct` is a sum of products in any order, and whatever multiplies exactly by the taps: GEMM, Toeplitz.
    m, r : int
        Winograd's F(m, r): outputs a tile and taps, an axis.
    points : tuple of float
        Winograd's finite interpolation points (the one at infinity is implied).
    """

    kind: str = "direct"
    m: int = 0
    r: int = 0
    points: tuple[float, ...] = ()

    def __str__(self) -> str:
        """`direct`, `fft` or `winograd F(m,r)`."""
        return f"winograd F({self.m},{self.r})" if self.kind == "winograd" else self.kind


DIRECT = AlgorithmClass("direct")
FFT = AlgorithmClass("fft")
#: How far one NaN spreads, by class: to its receptive field, to the tiles that touch it, to its image.
TAINTS = {"direct": "exact", "winograd": "tile", "fft": "image"}


@dataclass(frozen=True)
class Limits:
    """What a backend can do, declared once: the plan, the skips and the capability table come from it.

    Attributes
    ----------
    ops, padding_modes, dtypes : tuple of str
        Names that are taken. A dtype is an input type (`"f32"`: its default accumulator and output)
        or a triple (`"f16/f16/f16"`). None means all there are.
    ranks : tuple of int
        Numbers of spatial axes that are taken.
    dilation, groups, flip, negative_padding, asymmetric_padding, zero_batch : bool
        Whether a specification that uses the feature is taken.
    least_taps, most_taps : int
        Taps of each axis, 0 for as many as there are.
    most_stride : int
        Of each axis, 0 for any.
    rule : callable, optional
        `rule(spec) -> reason or None` for what the fields cannot say.
    """

    ops: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    ranks: tuple[int, ...] = (1, 2, 3)
    padding_modes: tuple[str, ...] | None = None
    dilation: bool = True
    groups: bool = True
    flip: bool = True
    negative_padding: bool = True
    asymmetric_padding: bool = True
    zero_batch: bool = True
    least_taps: int = 0
    most_taps: int = 0
    most_stride: int = 0
    rule: Callable[[ConvSpec], str | None] | None = None

    def why_not(self, spec: ConvSpec) -> str | None:
        """The reason why `spec` is not taken, or None.

        Examples
        --------
        >>> Limits(dtypes=("f32",)).why_not(ConvSpec("conv", (5,), (3,), in_dtype="f64"))
        'dtype f64 is not among f32'
        """
        if self.ops is not None and spec.op not in self.ops:
            return f"op {spec.op} is not among {', '.join(self.ops)}"
        if spec.rank not in self.ranks:
            return f"{spec.rank} spatial axes are not among {', '.join(map(str, self.ranks))}"
        if self.dtypes is not None and not self._takes_types(spec):
            return f"dtype {self._type_name(spec)} is not among {', '.join(self.dtypes)}"
        if self.padding_modes is not None and spec.padding_mode not in self.padding_modes:
            return f"padding mode {spec.padding_mode} is not among {', '.join(self.padding_modes)}"
        used = {
            "dilation": any(d > 1 for d in spec.dilation),
            "groups": spec.groups > 1,
            "flip": spec.flip,
            "negative_padding": any(min(p) < 0 for p in spec.padding),
            "asymmetric_padding": any(lo != hi for lo, hi in spec.padding),
            "zero_batch": spec.batch == 0,
        }
        for name, uses in used.items():
            if uses and not getattr(self, name):
                return f"{name.replace('_', ' ')} is not supported"
        if reason := self._not_this_size(spec):
            return reason
        return self.rule(spec) if self.rule else None

    def _not_this_size(self, spec: ConvSpec) -> str | None:
        least, most = self.least_taps, self.most_taps
        if min(spec.kernel_size) < least or (most and max(spec.kernel_size) > most):
            taps = f"{least}" if least == most else f"at least {least}" if least else f"at most {most}"
            return f"its kernels have {taps} taps an axis"
        if self.most_stride and max(spec.stride) > self.most_stride:
            return "its stride is 1" if self.most_stride == 1 else f"its stride is at most {self.most_stride}"
        return None

    def _takes_types(self, spec: ConvSpec) -> bool:
        assert self.dtypes is not None
        return self._type_name(spec) in self.dtypes or "/".join(spec.dtypes) in self.dtypes

    @staticmethod
    def _type_name(spec: ConvSpec) -> str:
        """`f32` where accumulator and output are the input's defaults, else the triple."""
        return spec.in_dtype if spec.dtypes == default_types(spec.op, spec.in_dtype) else "/".join(spec.dtypes)


@dataclass(frozen=True)
class Device:
    """A place where a backend can run.

    Attributes
    ----------
    name : str
        What `--device` matches; unique within the backend.
    kind : {'cpu', 'gpu', 'accelerator'}
    properties : mapping of str to str
        Driver, version, compute units, ...: recorded with the run.
    denormals : {'gradual', 'flush', 'flush-inputs'}
        What the device reports of subnormal numbers.
    rounding : {'nearest', 'truncate'}
        What the device reports of its arithmetic.
    """

    name: str
    kind: str = "cpu"
    properties: Mapping[str, str] = field(default_factory=dict)
    denormals: str = "gradual"
    rounding: str = "nearest"


@dataclass(frozen=True)
class Probe:
    """What `probe()` found: devices, or why there is none and what to do about it."""

    devices: tuple[Device, ...] = ()
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True)
class BackendInfo:
    """Facts about a backend, readable without its optional imports.

    Attributes
    ----------
    name : str
        Unique; letters, digits, `-`, `_`, `.`.
    summary : str
        One line.
    limits : Limits
    algorithm : AlgorithmClass
        Of its convolutions; a pool is always direct.
    transforms : tuple of (Limits, AlgorithmClass)
        Of a backend that chooses: the first whose limits take a specification says its class, and where none does it is
        direct. `algorithm` is then the one that is printed.
    extra : str
        The pip extra that brings its imports, or empty.
    version : str
        Of the implementation.
    taint : {'exact', 'tile', 'image'}
        How far one NaN in x spreads: its receptive field, the tiles that touch it, its image.
    deterministic : bool
        Whether equal calls give equal bits.
    thread_safe : bool
        Whether two threads may run one Prepared at once.
    nan_max_pool : {'propagate', 'unspecified'}
    layouts : tuple of str
        Memory layouts of x, w and b that it takes: `C` (contiguous and 64-byte aligned, all that the contract
        promises), and of `F`, `strided`, `negative`, `unaligned` those that it takes besides.
    contract : tuple of int
        The contract version it was written for.
    """

    name: str
    summary: str = ""
    limits: Limits = Limits()
    algorithm: AlgorithmClass = DIRECT
    transforms: tuple[tuple[Limits, AlgorithmClass], ...] = ()
    extra: str = ""
    version: str = ""
    taint: str = "exact"
    deterministic: bool = True
    thread_safe: bool = False
    nan_max_pool: str = "unspecified"
    layouts: tuple[str, ...] = ("C",)
    contract: tuple[int, int] = CONTRACT_VERSION

    @property
    def classes(self) -> str:
        """The class, or all of a backend that chooses.

        Examples
        --------
        >>> BackendInfo("both", transforms=((Limits(("conv",)), FFT),)).classes
        'fft or direct'
        """
        if not self.transforms:
            return str(self.algorithm)
        return " or ".join(dict.fromkeys([*(str(algorithm) for _, algorithm in self.transforms), str(DIRECT)]))

    def algorithm_for(self, spec: ConvSpec) -> AlgorithmClass:
        """The class that judges `spec`: the declared one, direct for a pool."""
        if spec.is_pool:
            return DIRECT
        if self.transforms:
            return next((algorithm for limits, algorithm in self.transforms if limits.why_not(spec) is None), DIRECT)
        return self.algorithm

    def taint_for(self, spec: ConvSpec) -> str:
        """How far a NaN spreads: as declared, or by the class of a backend that chooses."""
        if spec.is_pool:
            return "exact"
        return TAINTS[self.algorithm_for(spec).kind] if self.transforms else self.taint


@runtime_checkable
class Prepared(Protocol):
    """A specification compiled and planned on a device; a context manager.

    It may carry `phases`, a mapping of phase name (`pack`, `transfer`, `kernel`, `copy`) to the
    seconds of the last run, and `device_seconds`, the last run's kernel time by the device's clock.
    """

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Compute; block until done. Write every element of `out`, never write `x`, `w`, `b`.

        All arrays are of the specification's shapes and types, C-contiguous and 64-byte aligned (x, w and b unless
        `info.layouts` says more);
        `w` is None for a pool, `b` where there is no bias.
        """
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None, /
    ) -> bool | None: ...


@runtime_checkable
class Backend(Protocol):
    """An implementation of convolution."""

    info: BackendInfo

    def probe(self) -> Probe:
        """Find the devices it can use, or say why there is none. Never raises."""
        ...

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """Bytes it will allocate beyond the operands, at most."""
        ...

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Compile and plan `spec` for the device called `device`.

        Raises
        ------
        Unsupported
            If it turns out that it cannot; anything else that is raised is a defect.
        """
        ...


@dataclass(frozen=True)
class Candidate:
    """One way to build and launch the kernels for a specification.

    Attributes
    ----------
    settings : mapping of str to int
        Tile sizes, vector widths, work items a group, ...: what `Tunable.prepare_with` takes.
    pixels, filters : int
        Outputs and output channels of a tile: sizes about these are where its tails lie, and are verified.
    """

    settings: Mapping[str, int]
    pixels: int = 1
    filters: int = 1


@runtime_checkable
class Tunable(Protocol):
    """What a backend has besides so that `convproof tune` can choose its settings.

    Its `prepare` asks `harness.tuned.find` for what was kept and falls back to defaults of its own. Whatever it is given,
    a result is right: settings decide how fast.
    """

    def candidates(self, spec: ConvSpec, device: str, /) -> Sequence[Candidate]:
        """The settings that can be built for `spec` there: the default first, then the most promising first.

        Fewer than two where there is nothing to choose.
        """
        ...

    def prepare_with(self, spec: ConvSpec, device: str, settings: Mapping[str, int], /) -> Prepared:
        """As `prepare`, by these settings; of any specification that it takes, for tails are verified on small ones."""
        ...

    def tuned_key(self, device: str, /) -> Mapping[str, str]:
        """The facts for which a result holds: platform, device, driver version, compute units, a digest of the kernels."""
        ...


def host_device() -> Device:
    """The device of a backend that computes on the host's processor."""
    import platform

    return Device("cpu", "cpu", {"machine": platform.machine()})


Function = Callable[[ConvSpec, Any, Any, Any], Any]


def from_function(name: str, fn: Function, limits: Limits | None = None, **info: Any) -> Backend:
    """Make a backend of a function: the 15-line plugin.

    Parameters
    ----------
    name : str
    fn : callable
        `fn(spec, x, w, b) -> ndarray` of `spec.out_shape` and the output's dtype.
    limits : Limits, optional
        What it takes; everything if not given.
    **info
        Further fields of `BackendInfo`.

    Examples
    --------
    >>> import numpy as np
    >>> def blur(spec, x, w, b):
    ...     return np.zeros(spec.out_shape, x.dtype)
    >>> from_function("zeros", blur, Limits(dtypes=("f32",))).info.name
    'zeros'
    """
    return _FunctionBackend(BackendInfo(name, **{"summary": _summary(fn), **info}, limits=limits or Limits()), fn)


def _summary(fn: Function) -> str:
    return (fn.__doc__ or "").strip().partition("\n")[0]


@dataclass
class _FunctionBackend:
    info: BackendInfo
    fn: Function

    def probe(self) -> Probe:
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        return 0

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        return _FunctionPrepared(spec, self.fn)


class _FunctionPrepared:
    """Calls the function, checks what came back, copies it; the copy is a phase of its own."""

    def __init__(self, spec: ConvSpec, fn: Function) -> None:
        self.spec, self.fn = spec, fn
        self.phases: dict[str, float] = {}

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        from time import perf_counter

        start = perf_counter()
        y = self.fn(self.spec, x, w, b)
        called = perf_counter()
        _check_result(y, out, [a for a in (x, w, b) if a is not None])
        out[...] = y
        self.phases = {"kernel": called - start, "copy": perf_counter() - called}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def _check_result(y: Any, out: np.ndarray, inputs: list[np.ndarray]) -> None:
    """Raise `ContractError` unless `y` is a fresh ndarray of the right shape and dtype."""
    import numpy as np

    if type(y) is not np.ndarray:
        raise ContractError(f"returned {type(y).__module__}.{type(y).__qualname__}: return a plain numpy.ndarray")
    if y.shape != out.shape:
        raise ContractError(f"returned shape {list(y.shape)}, the specification's output is {list(out.shape)}")
    if y.dtype != out.dtype:
        raise ContractError(f"returned dtype {y.dtype}, the specification's output is {out.dtype}")
    if any(np.may_share_memory(y, a) for a in inputs):
        raise ContractError("returned memory of one of its inputs: return a fresh array")
