"""The shape of a catalogue file, as pydantic models; `cases/schema.json` is generated from them.

The models decide what a *well-formed* entry is (keys, types, spelling). Whether its sizes make
sense is `ConvSpec`'s affair, so that a case of the family `invalid` can be written down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    WithJsonSchema,
)

from harness.catalogue.errors import nearest
from harness.spec.convspec import OPS, PADDING_MODES
from harness.spec.dtypes import DTYPES

#: Words that stand for a padding; each is worked out axis by axis.
PADDING_WORDS = ("same_lower", "same_upper", "full", "valid")
ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_INT_SCHEMA = {"type": "integer"}
_PAIR_SCHEMA = {"type": "array", "items": _INT_SCHEMA, "minItems": 2, "maxItems": 2}


def show(value: Any) -> str:
    """A value in a message, short.

    Examples
    --------
    >>> show("2"), show([1, 2]), show(True)
    ("'2' (text)", '[1, 2]', 'true')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} (text)" if isinstance(value, str) else text


def _is_int(v: Any) -> bool:
    return type(v) is int


def _per_axis(value: Any) -> int | tuple[int, ...]:
    """An integer for every axis, or a list with one for each."""
    if _is_int(value):
        return int(value)
    if isinstance(value, list) and all(_is_int(v) for v in value):
        return tuple(value)
    raise ValueError(f"it takes an integer (every axis) or a list of one an axis: got {show(value)}")


def _sizes(value: Any) -> tuple[int, ...]:
    """A list with one integer an axis."""
    if isinstance(value, list) and all(_is_int(v) for v in value):
        return tuple(value)
    raise ValueError(f"it takes a list of one integer an axis: got {show(value)}")


def _padding(value: Any) -> int | str | tuple[int | tuple[int, int], ...]:
    """An integer, a word, or a list of an integer or [low, high] an axis."""
    if _is_int(value):
        return int(value)
    if isinstance(value, str):
        if value in PADDING_WORDS:
            return value
        hint = (
            "say same_lower or same_upper (they differ for even kernels)" if value == "same" else nearest(value, PADDING_WORDS)
        )
        raise ValueError(f"unknown padding {value!r}: {hint}")
    if isinstance(value, list):
        axes: list[int | tuple[int, int]] = []
        for v in value:
            if _is_int(v):
                axes.append(int(v))
            elif isinstance(v, list) and len(v) == 2 and all(_is_int(e) for e in v):
                axes.append((v[0], v[1]))
            else:
                raise ValueError(f"an axis takes an integer or [low, high]: got {show(v)}")
        return tuple(axes)
    raise ValueError(f"it takes an integer, a word, or a list of an integer or [low, high] an axis: got {show(value)}")


def _one_of(names: Sequence[str]) -> AfterValidator:
    """A check against a fixed vocabulary; the error names the nearest word."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"unknown value {value!r}: {nearest(value, names)}")
        return value

    return AfterValidator(check)


def _enum(names: Sequence[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(names)})


PerAxis = Annotated[
    Any,
    PlainValidator(_per_axis),
    WithJsonSchema({"anyOf": [_INT_SCHEMA, {"type": "array", "items": _INT_SCHEMA, "minItems": 1, "maxItems": 3}]}),
]
Sizes = Annotated[
    Any, PlainValidator(_sizes), WithJsonSchema({"type": "array", "items": _INT_SCHEMA, "minItems": 1, "maxItems": 3})
]
Padding = Annotated[
    Any,
    PlainValidator(_padding),
    WithJsonSchema(
        {
            "anyOf": [
                _INT_SCHEMA,
                {"type": "string", "enum": list(PADDING_WORDS)},
                {"type": "array", "items": {"anyOf": [_INT_SCHEMA, _PAIR_SCHEMA]}, "minItems": 1, "maxItems": 3},
            ]
        }
    ),
]
Op = Annotated[str, _one_of(OPS), _enum(OPS)]
Mode = Annotated[str, _one_of(PADDING_MODES), _enum(PADDING_MODES)]
Dtype = Annotated[str, _one_of(tuple(DTYPES)), _enum(tuple(DTYPES))]
SuiteName = Literal["smoke", "gate", "full", "perf"]


class _Model(BaseModel):
    # defer_build: of eight models a load uses four, and each costs milliseconds to build
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class SpecFields(_Model):
    """The fields of a specification; names as in `ConvSpec`, but for `dtype` (its in_dtype)."""

    op: Op | None = Field(None, description="conv, conv_transpose, max_pool or avg_pool")
    in_size: Sizes = Field(None, description="input elements, one entry a spatial axis")
    kernel_size: PerAxis = Field(None, description="kernel elements; a number means every axis")
    batch: int = Field(1, description="images; may be 0")
    in_channels: int = 1
    out_channels: int = Field(0, description="default: 1, or for a pool in_channels")
    stride: PerAxis = 1
    padding: Padding = Field(0, description="every side, a word, or an integer or [low, high] an axis")
    padding_mode: Mode = "zeros"
    dilation: PerAxis = Field(1, description="1 is dense")
    groups: int = 1
    output_padding: PerAxis = Field(0, description="conv_transpose only")
    bias: bool = False
    flip: bool = Field(False, description="true reverses the stored taps (the textbook's convolution)")
    ceil_mode: bool = Field(False, description="pools only")
    count_include_pad: bool = Field(False, description="avg_pool only")
    dtype: Dtype = Field("f32", description="element type of the input and the weights")
    acc_dtype: Dtype | None = Field(None, description="default: the first triple of the input's type")
    out_dtype: Dtype | None = Field(None, description="default: the first triple of the input's type")


class _About(_Model):
    source: str | None = Field(None, description="'lecture: ', 'paper: ', 'issue: ', 'doc: ' or 'hand: ', then where or why")
    suite: SuiteName = Field("gate", description="the smallest suite that holds the case")
    tags: list[str] = Field(default_factory=list)


class Defaults(SpecFields, _About):
    """What the entries of a file have unless they say otherwise."""


class LiteralNumbers(_Model):
    """Worked numbers; leading axes of length 1 may be left out."""

    x: list[JsonValue] = Field(description="input, nested lists of integers or dyadic fractions")
    w: list[JsonValue] | None = Field(None, description="weights; none for a pool")
    b: list[JsonValue] | None = Field(None, description="bias, where the case has one")
    y: list[JsonValue] = Field(description="output")


class MatrixNumbers(_Model):
    """The convolution as a matrix, written out entry by entry."""

    view: Literal["filter", "data"] = Field(
        description="filter: T of y = T x, from the literal w; data: X of y^T = h^T X, from the literal x"
    )
    rows: list[list[JsonValue]] = Field(min_length=1, description="rows of integers or dyadic fractions")


class PhotoFile(_Model):
    """A picture as the input."""

    file: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*\.pgm$", description="a binary PGM (P5, 8 bits) beside this file")
    w: list[JsonValue] = Field(description="weights, nested lists of integers or dyadic fractions")
    scale: float | int = Field(1, description="a power of two or another dyadic fraction that multiplies every weight")


class Entry(SpecFields, _About):
    """A case, or with a grid a family of cases that share their reason."""

    id: str = Field(
        description="<family>-<feature>-<variant>, lower-case words and digits joined by hyphens", pattern=f"^{ID.pattern}$"
    )
    why: str = Field(description="the fact that makes the case worth its time; not what anything ought to do")
    literal: LiteralNumbers | None = None
    matrix: MatrixNumbers | None = Field(None, description="of the literal's w or x, to be held against every backend")
    photo: PhotoFile | None = Field(None, description="a picture as x; in_size may be left out")
    crop_of: str | None = Field(None, description="id of the case with the original spatial size")
    grid: dict[str, Annotated[list[JsonValue], Field(min_length=1)] | dict[str, JsonValue]] | None = Field(
        None, description="field: [values] or {label: value}; variant: {label: {field: value}}"
    )
    except_: list[dict[str, JsonValue]] = Field(
        default_factory=list, alias="except", description="combinations of the grid to leave out"
    )


class RefusedEntry(_About):
    """A specification that is refused; its fields are free, so that they can be wrong."""

    id: str = Field(description="invalid-<feature>-<variant>", pattern=f"^{ID.pattern}$")
    why: str
    refused: str = Field(min_length=8, description="a fragment of the message that refuses it")
    op: str | None = None
    in_size: Any = None
    kernel_size: Any = None
    batch: Any = 1
    in_channels: Any = 1
    out_channels: Any = 0
    stride: Any = 1
    padding: Any = 0
    padding_mode: str = "zeros"
    dilation: Any = 1
    groups: Any = 1
    output_padding: Any = 0
    bias: Any = False
    flip: Any = False
    ceil_mode: Any = False
    count_include_pad: Any = False
    dtype: str = "f32"
    acc_dtype: str | None = None
    out_dtype: str | None = None


class CatalogueFile(_Model):
    """A catalogue file: the cases of one family."""

    family: str = Field(description="first word of every id in the file", pattern=r"^[a-z0-9]+$")
    defaults: Defaults | None = None
    cases: list[Entry | RefusedEntry] = Field(min_length=1)
