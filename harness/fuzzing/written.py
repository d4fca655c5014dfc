"""A shrunk failure in writing: an entry for the catalogue, and a script that needs nothing but NumPy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import isfinite
from typing import Any

import numpy as np

from harness.catalogue import Case
from harness.fuzzing.bench import Judged
from harness.fuzzing.shrink import Shrunk
from harness.spec import ConvSpec
from harness.spec.convspec import default_types
from harness.text import clean

#: Characters of the verdict's message in a case's `why`.
MESSAGE = 160


def described(shrunk: Shrunk, backend: str, seed: int) -> dict[str, str]:
    """`why` and `source` of the shrunk case, in the catalogue's manner."""
    message = clean(shrunk.found.verdict.message)
    message = re.sub(r"\b(should|must|ought)\b", "would", " ".join(message.split()))[:MESSAGE].rstrip(". ")
    source = f"hand: shrunk from {shrunk.origin.id}, which {backend} fails under {shrunk.check}, seed {seed}"
    return {"why": f"{backend} fails {shrunk.found.check} here: {message}", "source": source}


def yaml_text(cases: Iterable[tuple[Case, dict[str, str]]], family: str) -> str:
    """A catalogue file of the cases, each with its `why` and `source`.

    Examples
    --------
    >>> from harness.fuzzing.cases import case_of
    >>> about = {"why": "a small case", "source": "hand: an example"}
    >>> print(yaml_text([(case_of(ConvSpec("conv", (5,), (3,))), about)], "fuzz"))
    family: fuzz
    cases:
      - id: fuzz-conv-1d-194dec4a4102
        op: conv
        in_size: [5]
        kernel_size: [3]
        why: "a small case"
        source: "hand: an example"
    <BLANKLINE>
    """
    lines = [f"family: {family}", "cases:"]
    for case, about in cases:
        assert case.spec is not None
        lines.append(f"  - id: {case.id}")
        lines += [f"    {name}: {value}" for name, value in _fields(case.spec)]
        if case.tags:
            lines.append(f"    tags: [{', '.join(case.tags)}]")
        lines += [f"    {name}: {json.dumps(text)}" for name, text in about.items()]
        if case.literal is not None:
            lines.append("    literal:")
            lit = case.literal
            for name, numbers in (("x", lit.x), ("w", lit.w), ("b", lit.b), ("y", lit.y)):
                if numbers is not None:
                    lines.append(f"      {name}: {json.dumps(numbers)}")
    return "\n".join(lines) + "\n"


def _fields(spec: ConvSpec) -> list[tuple[str, str]]:
    """The specification's fields that are not the default, as YAML."""
    neutral = {"stride": 1, "dilation": 1, "output_padding": 0, "padding": (0, 0)}
    found: list[tuple[str, Any]] = []
    for name, value in spec.to_dict().items():
        if name in ("in_dtype", "acc_dtype", "out_dtype"):
            continue
        if name in neutral and all(v == neutral[name] for v in value):
            continue
        if name == "out_channels" and value == (spec.in_channels if spec.is_pool else 1):
            continue
        if name not in ("op", "in_size", "kernel_size") and value == ConvSpec.__dataclass_fields__[name].default:
            continue
        found.append((name, value))
    if spec.in_dtype != "f32":
        found.append(("dtype", spec.in_dtype))
    for name, default in zip(("acc_dtype", "out_dtype"), default_types(spec.op, spec.in_dtype)[1:], strict=True):
        if (value := getattr(spec, name)) != default:
            found.append((name, value))
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in found]


# --- the script -----------------------------------------------------------------------------------------------


def script(found: Judged, reference: str, title: str) -> str | None:
    """A stand-alone program that shows the failure; None where no call of the backend was looked at.

    It holds the operands as literals and the definition as plain loops over exact fractions, and asserts. It needs
    NumPy (and ml_dtypes for bf16); only its function `backend` calls the backend, through the harness or as its
    reader likes. With `--recorded` it judges the output that was recorded when the failure was found.
    """
    trial = found.trial
    if trial is None or any(a is not None and a.size > 4096 for a in trial.ops.arrays):
        return None
    spec = trial.spec
    names = ("X", "W", "B")
    arrays = [f"{n} = {_array(a)}" for n, a in zip(names, trial.ops.arrays, strict=True)]
    recorded = "None  # nothing came back" if trial.out is None else _array(trial.out)
    bound, note = _bound(found)
    parts = {
        "title": clean(title).replace("\\", "/").replace('"""', "'''"),
        "verdict": clean(f"{found.check}: {found.verdict.status}: {found.verdict.message}").replace('"""', "'''"),
        "imports": "import ml_dtypes\n" if "bf16" in spec.dtypes else "",
        "spec": _spec_literal(spec),
        "arrays": "\n".join(arrays),
        "recorded": recorded,
        "reads": _READS["conv_transpose" if spec.op == "conv_transpose" else spec.padding_mode],
        "expected": _EXPECTED["pool" if spec.is_pool else "conv"],
        "reference": json.dumps(clean(reference)),
        # what the backend leaves unwritten has to differ from any result
        "out": f"{list(spec.out_shape)}, {'np.nan' if spec.out_type.is_float else '-77'}, {_dtype(spec.out_dtype)}",
        "bound": bound,
        "note": note,
    }
    text = _SCRIPT
    for name, value in parts.items():
        text = text.replace(f"@{name}@", value)
    return text


def _spec_literal(spec: ConvSpec) -> str:
    inner = "\n".join(f"    {k!r}: {v!r}," for k, v in spec.to_dict().items())
    return "{\n" + inner + "\n}"


def _dtype(name: str) -> str:
    names = {"f16": "float16", "f32": "float32", "f64": "float64", "i8": "int8", "i32": "int32"}
    return "ml_dtypes.bfloat16" if name == "bf16" else f"np.{names[name]}"


def _array(a: np.ndarray | None) -> str:
    if a is None:
        return "None"
    name = {"bfloat16": "ml_dtypes.bfloat16"}.get(a.dtype.name, f"np.{a.dtype.name}")
    values = a.astype(np.float64).reshape(-1).tolist() if a.dtype.kind not in "iu" else a.reshape(-1).tolist()
    text = ", ".join(_number(v) for v in values)
    return f"np.array([{text}], np.float64).astype({name}).reshape({list(a.shape)})"


def _number(v: float) -> str:
    if isinstance(v, float) and not isfinite(v):
        return f'float("{v}")'
    return str(int(v)) if v == int(v) and abs(v) < 2**53 and not (v == 0 and str(v)[0] == "-") else repr(v)


def _bound(found: Judged) -> tuple[str, str]:
    """How far the output may be from the definition, as Python, and why."""
    v = found.verdict
    if found.check == "literal" or v.error_bound in (0.0, float("inf")):
        return "0", "these numbers leave no room for rounding: the output equals the definition, rounded once to its type"
    if v.error_bound and isfinite(v.error_bound) and v.got is not None and v.expected is not None and isfinite(v.got):
        limit = abs(v.got - v.expected) / v.error_bound
        return f"Fraction({limit!r})", "the bound of NUMERICS that the worst element broke"
    return "None", "the failure is no wrong number: see the first lines"


_READS = {
    "zeros": "        i = o * s - lo + k * d\n        if 0 <= i < n:\n            yield i, tap",
    "circular": "        yield (o * s - lo + k * d) % n, tap",
    "reflect": "        i = abs(o * s - lo + k * d)\n        yield (i if i < n else 2 * (n - 1) - i), tap",
    "replicate": "        yield min(max(o * s - lo + k * d, 0), n - 1), tap",
    "conv_transpose": (
        "        i, left = divmod(o + lo - k * d, s)\n        if left == 0 and 0 <= i < n:\n            yield i, tap"
    ),
}
_EXPECTED = {
    "conv": """\
    per_in, per_out = SPEC["in_channels"] // SPEC["groups"], SPEC["out_channels"] // SPEC["groups"]
    total = Fraction(0) if B is None else number(B[channel])
    for c in range(per_in):
        c_in = channel // per_out * per_in + c
        first = (c_in, channel % per_out) if SPEC["op"] == "conv_transpose" else (channel, c)
        for pairs in itertools.product(*(reads(o, axis) for axis, o in enumerate(place))):
            at, taps = tuple(i for i, _ in pairs), tuple(k for _, k in pairs)
            total += number(X[(batch, c_in, *at)]) * number(W[(*first, *taps)])
    return total""",
    "pool": """\
    seen = [
        number(X[(batch, channel, *(i for i, _ in pairs))])
        for pairs in itertools.product(*(reads(o, axis) for axis, o in enumerate(place)))
    ]
    if SPEC["op"] == "max_pool":
        return max(seen)
    divisor = 1
    for axis, o in enumerate(place):
        lo, hi = SPEC["padding"][axis]
        low, high = (-lo, SPEC["in_size"][axis] + hi) if SPEC["count_include_pad"] else (0, SPEC["in_size"][axis])
        at = [o * SPEC["stride"][axis] - lo + k * SPEC["dilation"][axis] for k in range(SPEC["kernel_size"][axis])]
        divisor *= sum(low <= i < high for i in at)
    return sum(seen) / divisor""",
}
_SCRIPT = '''\
"""@title@

@verdict@

python THIS_FILE             calls the backend, through Convproof or as you write it into `backend` below
python THIS_FILE --recorded  judges the output that was recorded when this was found; needs NumPy alone
"""

import itertools
import sys
from fractions import Fraction

@imports@import numpy as np

SPEC = @spec@
@arrays@
RECORDED = @recorded@


# === the backend under judgement: put a call of your own code here ==============================
def backend(x, w, b):
    from harness.registry import load
    from harness.spec import ConvSpec

    loaded = load(@reference@)
    out = np.full(@out@)
    with loaded.prepare(ConvSpec.from_dict(SPEC), loaded.probe().devices[0].name) as prepared:
        prepared.run(x, w, b, out)
    return out
# ================================================================================================


def number(v):
    """Exact where it is finite."""
    v = float(v)
    return Fraction(v) if np.isfinite(v) else v


def reads(o, axis):
    """(position in the input, stored tap) of every product that output `o` sums along an axis."""
    n, m, s, d = (SPEC[name][axis] for name in ("in_size", "kernel_size", "stride", "dilation"))
    lo = SPEC["padding"][axis][0]
    for k in range(m):
        tap = m - 1 - k if SPEC["flip"] else k
@reads@


def definition(batch, channel, *place):
    """One output, exactly."""
@expected@


def main():
    got = RECORDED if "--recorded" in sys.argv else backend(X, W, B)
    if got is None:
        sys.exit("nothing was recorded: the backend gave no output")
    bound = @bound@  # @note@
    wrong = []
    for index in np.ndindex(*got.shape):
        want = definition(*index)
        if bound == 0:
            rounded = np.array(float(want)).astype(got.dtype)
            agrees = bool(got[index] == rounded) or (rounded != rounded and got[index] != got[index])
        else:
            agrees = bound is None or bool(abs(number(got[index]) - want) <= bound)
        if not agrees:
            wrong.append(f"{list(index)}: got {float(got[index])!r}, the definition gives {float(want)!r}")
    print("got:", got.astype(np.float64).tolist(), sep="\\n")
    assert not wrong, f"{len(wrong)} of {got.size} outputs are wrong:\\n" + "\\n".join(wrong[:20])
    print("every output agrees with the definition")


if __name__ == "__main__":
    main()
'''
