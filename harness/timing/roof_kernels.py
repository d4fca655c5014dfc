"""The host's roofline loops, written as LLVM code with explicit vectors and compiled for this processor.

Written rather than left to a vectoriser: compilers prefer half-width vectors on some processors, keep too few sums in
flight, or see that a loop repeats itself. llvmlite comes with numba and is imported inside `compile_loops`. Compiled
loops hold no interpreter lock and read the clock themselves: the times of a round are its own, whatever Python does
meanwhile. Each function runs rounds until `deadline`, `rounds` at most, writes the start and the end of each to `stamps`
and returns how many there were.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Bytes of a float, by arithmetic type, and LLVM's name of it.
FLOATS = {"f32": (4, "float"), "f64": (8, "double")}
#: Vectors that a turn of the triad's loop moves from each array.
UNROLL = 4
#: What `clock_gettime` calls the monotonic clock: 1 on Linux, 6 on macOS.
_MONOTONIC = 6 if platform.system() == "Darwin" else 1

_PROLOGUE = """
declare i32 @clock_gettime(i32, ptr)

; Write the time to `place`, in seconds and nanoseconds, and tell whether it is before `deadline` (in nanoseconds).
define i1 @stamp(ptr %place, i64 %deadline) noinline {{
  fence seq_cst
  %failed = call i32 @clock_gettime(i32 {clock}, ptr %place)
  %seconds = load i64, ptr %place, align 8
  %at = getelementptr i8, ptr %place, i64 8
  %rest = load i64, ptr %at, align 8
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  %early = icmp slt i64 %now, %deadline
  ret i1 %early
}}
"""

#: A round is `turns` times `x = x * a + b` on each of independent vectors, which start and end in `state`.
_MULTIPLY_ADD = """
{declare}
define i64 @fma_{name}(i64 %rounds, i64 %deadline, ptr %stamps, i64 %turns, ptr %state, {float} %a, {float} %b) {{
entry:
  %a0 = insertelement {vector} poison, {float} %a, i64 0
  %va = shufflevector {vector} %a0, {vector} poison, <{lanes} x i32> zeroinitializer
  %b0 = insertelement {vector} poison, {float} %b, i64 0
  %vb = shufflevector {vector} %b0, {vector} poison, <{lanes} x i32> zeroinitializer
  br label %round
round:
  %r = phi i64 [ 0, %entry ], [ %r.next, %end ]
  %r.next = add i64 %r, 1
  %pair = shl i64 %r, 5
  %start = getelementptr i8, ptr %stamps, i64 %pair
  %stop = getelementptr i8, ptr %start, i64 16
  %started = call i1 @stamp(ptr %start, i64 %deadline)
{loads}
  br label %turn
turn:
  %t = phi i64 [ 0, %round ], [ %t.next, %turn ]
{phis}
{work}
  %t.next = add i64 %t, 1
  %more = icmp slt i64 %t.next, %turns
  br i1 %more, label %turn, label %end
end:
{stores}
  %early = call i1 @stamp(ptr %stop, i64 %deadline)
  %room = icmp slt i64 %r.next, %rounds
  %again = and i1 %early, %room
  br i1 %again, label %round, label %done
done:
  ret i64 %r.next
}}
"""

#: A round is `passes` times `a[i] = b[i] + s * c[i]` over `part` bytes of each array. It goes on where the last one ended,
#: and at the start after `whole` bytes: it is short, and yet finds nothing in a cache that `whole` exceeds.
_TRIAD = """
define i64 @triad_{name}(i64 %rounds, i64 %deadline, ptr %stamps, i64 %passes, i64 %part, i64 %whole,
                         ptr %a, ptr %b, ptr %c, {float} %s) {{
entry:
  %s0 = insertelement {vector} poison, {float} %s, i64 0
  %vs = shufflevector {vector} %s0, {vector} poison, <{lanes} x i32> zeroinitializer
  br label %round
round:
  %r = phi i64 [ 0, %entry ], [ %r.next, %end ]
  %from = phi i64 [ 0, %entry ], [ %from.next, %end ]
  %to = add i64 %from, %part
  %r.next = add i64 %r, 1
  %pair = shl i64 %r, 5
  %start = getelementptr i8, ptr %stamps, i64 %pair
  %stop = getelementptr i8, ptr %start, i64 16
  %started = call i1 @stamp(ptr %start, i64 %deadline)
  br label %pass
pass:
  %p = phi i64 [ 0, %round ], [ %p.next, %passed ]
  br label %turn
turn:
  %i = phi i64 [ %from, %pass ], [ %i.next, %turn ]
{work}
  %i.next = add i64 %i, {step}
  %more = icmp slt i64 %i.next, %to
  br i1 %more, label %turn, label %passed
passed:
  %p.next = add i64 %p, 1
  %pass.more = icmp slt i64 %p.next, %passes
  br i1 %pass.more, label %pass, label %end
end:
  %early = call i1 @stamp(ptr %stop, i64 %deadline)
  %wraps = icmp sge i64 %to, %whole
  %from.next = select i1 %wraps, i64 0, i64 %to
  %room = icmp slt i64 %r.next, %rounds
  %again = and i1 %early, %room
  br i1 %again, label %round, label %done
done:
  ret i64 %r.next
}}
"""


@dataclass(frozen=True)
class Loops:
    """Compiled loops.

    Attributes
    ----------
    vector_bytes : int
        Width of their vectors.
    chains : int
        Sums that the multiply-add loop keeps in flight.
    fused : bool
        Whether the processor multiplies and adds in one instruction.
    assembly : str
        What was made of them, for whoever doubts it.
    functions : mapping of str to callable
        `fma_f32`, `fma_f64`; `triad_plain`, `triad_streaming`, the latter with stores that pass by the caches.
    """

    vector_bytes: int
    chains: int
    fused: bool
    assembly: str
    functions: Mapping[str, Callable[..., int]]
    #: the engine that owns the code: it must outlive the functions
    engine: Any

    def flops(self, dtype: str, turns: int) -> int:
        """Operations of a round of `turns` turns, a multiply-add counting two."""
        return 2 * self.chains * turns * (self.vector_bytes // FLOATS[dtype][0])


def compile_loops() -> Loops:
    """Compile the loops for this processor.

    Raises
    ------
    ImportError
        Without llvmlite.
    RuntimeError
        If LLVM does not take the code.
    """
    # llvmlite 0.43 and 0.44 know pointers without a type only when they are told so before they are imported.
    os.environ.setdefault("LLVMLITE_ENABLE_OPAQUE_POINTERS", "1")
    import llvmlite.binding as llvm  # type: ignore[import-untyped]

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    width, chains, fused = shape(features)
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3)
    module = llvm.parse_assembly(source(width, chains, fused))
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    module.verify()
    assembly = str(machine.emit_assembly(module))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    i, p, f, d = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float, ctypes.c_double
    rounds = (i, i, p)
    kinds = {
        "fma_f32": (*rounds, i, p, f, f),
        "fma_f64": (*rounds, i, p, d, d),
        "triad_plain": (*rounds, i, i, i, p, p, p, f),
        "triad_streaming": (*rounds, i, i, i, p, p, p, f),
    }
    functions = {n: ctypes.CFUNCTYPE(i, *k)(engine.get_function_address(n)) for n, k in kinds.items()}
    return Loops(width, chains, fused, assembly, functions, engine)


def shape(features: dict[str, bool]) -> tuple[int, int, bool]:
    """Vector bytes, chains and whether multiply-add is one instruction, by the processor's features as LLVM names them.

    Two units of four or five cycles want ten chains, four units of four cycles (Neoverse V2) sixteen: as many as the
    registers hold beside the two constants, in round numbers.

    Examples
    --------
    >>> shape({"avx512f": True, "avx": True, "fma": True})
    (64, 24, True)
    >>> shape({"avx": True, "fma": False})
    (32, 12, False)
    """
    if features.get("avx512f"):
        return 64, 24, True
    if platform.machine().lower() in ("x86_64", "amd64", "i686"):
        return (32 if features.get("avx") else 16), 12, bool(features.get("fma"))
    return 16, 24, True  # NEON, VSX and their like; wider SVE vectors are left to the GEMM


def source(width: int, chains: int, fused: bool) -> str:
    """LLVM code of all loops, for vectors of `width` bytes.

    Parameters
    ----------
    width : int
    chains : int
    fused : bool
        Else a multiplication and an addition stand for a multiply-add: LLVM would call a library for each lane.
    """
    parts = [_PROLOGUE.format(clock=_MONOTONIC)]
    for name, (size, kind) in FLOATS.items():
        lanes = width // size
        vector = f"<{lanes} x {kind}>"
        intrinsic = f"@llvm.fma.v{lanes}{name}"
        each = range(chains)
        places = [f"  %at{j} = getelementptr {vector}, ptr %state, i64 {j}" for j in each]
        parts.append(
            _MULTIPLY_ADD.format(
                name=name,
                float=kind,
                vector=vector,
                lanes=lanes,
                declare=f"declare {vector} {intrinsic}({vector}, {vector}, {vector})" if fused else "",
                loads="\n".join([*places, *(f"  %x{j} = load {vector}, ptr %at{j}, align 64" for j in each)]),
                phis="\n".join(f"  %v{j} = phi {vector} [ %x{j}, %round ], [ %w{j}, %turn ]" for j in each),
                work="\n".join(_multiply_add(f"%w{j}", f"%v{j}", vector, intrinsic if fused else "") for j in each),
                stores="\n".join(f"  store {vector} %w{j}, ptr %at{j}, align 64" for j in each),
            )
        )
    lanes, vector = width // 4, f"<{width // 4} x float>"
    for name, hint in (("plain", ""), ("streaming", ", !nontemporal !0")):
        work = "\n".join(_triad(j, width, vector, hint) for j in range(UNROLL))
        parts.append(_TRIAD.format(name=name, float="float", vector=vector, lanes=lanes, work=work, step=UNROLL * width))
    return "\n".join([*parts, "!0 = !{i32 1}", ""])


def _multiply_add(to: str, x: str, vector: str, intrinsic: str) -> str:
    if intrinsic:
        return f"  {to} = call {vector} {intrinsic}({vector} {x}, {vector} %va, {vector} %vb)"
    return f"  {to}.m = fmul {vector} {x}, %va\n  {to} = fadd {vector} {to}.m, %vb"


def _triad(j: int, width: int, vector: str, hint: str) -> str:
    return f"""  %i{j} = add i64 %i, {j * width}
  %pa{j} = getelementptr i8, ptr %a, i64 %i{j}
  %pb{j} = getelementptr i8, ptr %b, i64 %i{j}
  %pc{j} = getelementptr i8, ptr %c, i64 %i{j}
  %b{j} = load {vector}, ptr %pb{j}, align 64
  %c{j} = load {vector}, ptr %pc{j}, align 64
  %m{j} = fmul contract {vector} %c{j}, %vs
  %y{j} = fadd contract {vector} %b{j}, %m{j}
  store {vector} %y{j}, ptr %pa{j}, align 64{hint}"""
