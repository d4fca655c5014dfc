"""The specifications on which a candidate of tuning is verified: sizes about its tile, where kernels go wrong.

Outputs and output channels of one less than a tile, a tile, one more, twice as many and one, a prime and 1, every one of
the first with every one of the second; strides, dilations, groups, paddings, biases, batches and one to three axes by turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, product
from math import prod

from harness.catalogue import Case
from harness.spec import ConvSpec, SpecError

#: Multiply-adds of a specification, at most: the tiles of GPUs are wide, and what is verified is their edge.
MOST_WORK = 4_000_000
PRIME = 13


@dataclass(frozen=True)
class Form:
    """All of a specification but its sizes.

    Attributes
    ----------
    kernel : tuple of int
    rows : tuple of int
        Outputs of the axes before the last.
    stride, dilation : tuple of int, optional
        1 on all axes if not given.
    low, high : int
        Padding of every axis.
    groups, batch, channels : int
        Of channels, of one group.
    bias : bool
    """

    kernel: tuple[int, ...]
    rows: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    low: int = 0
    high: int = 0
    groups: int = 1
    batch: int = 1
    channels: int = 3
    bias: bool = False


#: Eleven, a number that shares no factor with that of the sizes, so that the turns meet all of them.
FORMS = (
    Form((1,)),
    Form((3,), low=1, high=1, bias=True),
    Form((3,), stride=(2,), dilation=(2,), low=2, high=1, batch=2),
    Form((1, 1), (3,), groups=2, bias=True),
    Form((3, 3), (1,), low=1, high=1),
    Form((3, 3), (5,), stride=(2, 2), low=1, high=0, channels=5),
    Form((3, 3), (3,), dilation=(2, 2), low=2, high=2, groups=3, channels=2),
    Form((1, 3), (2,), stride=(2, 1), low=0, high=2, batch=2, bias=True),
    Form((1, 1, 1), (2, 1), channels=7),
    Form((2, 1, 3), (2, 3), stride=(1, 2, 1), low=1, high=1, bias=True),
    Form((9,), stride=(3,), low=4, high=4, groups=2, channels=1),
)


def tails(like: ConvSpec, pixels: int, filters: int) -> list[Case]:
    """Cases about a tile of `pixels` outputs x `filters` output channels, of the op and the types of `like`.

    Examples
    --------
    >>> found = tails(ConvSpec("conv", (9,), (3,)), 48, 8)
    >>> len(found), sorted({c.spec.out_channels // c.spec.groups for c in found})
    (35, [1, 7, 8, 9, 17])
    """
    outputs = list(dict.fromkeys(n for n in (pixels, pixels - 1, pixels + 1, 1, 2 * pixels + 1, PRIME) if n > 0))
    channels = list(dict.fromkeys(n for n in (filters, filters + 1, filters - 1, 2 * filters + 1, 1) if n > 0))
    found: dict[ConvSpec, Case] = {}
    turns = [(FORMS[0], n, filters + 1) for n in outputs]  # each number of outputs once in a row, where rows do not round it
    turns += [(form, *sizes) for sizes, form in zip(product(outputs, channels), cycle(FORMS))]
    for form, last, outs in turns:
        if (spec := _spec(like, form, last, outs)) is not None and spec not in found:
            name = f"tail-{last}x{outs}-{spec.digest[:6]}"
            found[spec] = Case(
                name, "tail", spec, f"{last} outputs x {outs} channels beside a tile of {pixels} x {filters}", "tune"
            )
    return list(found.values())


def _spec(like: ConvSpec, form: Form, last: int, filters: int) -> ConvSpec | None:
    """The form with so many outputs in all, or a few more; None where it has no meaning in this op."""
    rank = len(form.kernel)
    rows = form.rows or (1,) * (rank - 1)
    out = (*rows, -(-last // prod(rows)))
    stride, dilation = form.stride or (1,) * rank, form.dilation or (1,) * rank
    pad = form.low + form.high
    reach = [d * (k - 1) + 1 for k, d in zip(form.kernel, dilation, strict=True)]
    if like.op == "conv_transpose":
        sizes = list(out)  # each residue of the stride has about as many outputs as there are inputs
        padding = tuple((min(form.low, r - 1), 0) for r in reach)
    else:
        sizes = [(n - 1) * s + r - pad for n, s, r in zip(out, stride, reach, strict=True)]
        padding = ((form.low, form.high),) * rank
    try:
        spec = ConvSpec(
            like.op,
            tuple(sizes),
            form.kernel,
            form.batch,
            form.channels * form.groups,
            filters * form.groups,
            stride,
            padding,
            dilation=dilation,
            groups=form.groups,
            bias=form.bias,
            flip=like.flip,
            in_dtype=like.in_dtype,
            acc_dtype=like.acc_dtype,
            out_dtype=like.out_dtype,
        )
    except SpecError:
        return None
    return spec if prod(spec.out_shape) * form.channels * prod(form.kernel) <= MOST_WORK else None
