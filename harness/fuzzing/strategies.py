"""Hypothesis strategies for whoever tests a backend with pytest: `pip install 'convproof[fuzz]'`.

Examples
--------
A test of your own, without the harness's checks::

    from hypothesis import given
    from harness.fuzzing.strategies import specs

    @given(specs(ops=("conv",), max_flops=50_000))
    def test_the_output_has_the_shape_of_the_specification(spec):
        assert my_convolution(spec).shape == spec.out_shape
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.fuzzing.draws import Bounds, draw_spec
from harness.spec import ConvSpec
from harness.spec.convspec import DTYPE_TRIPLES, OPS

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from harness.backend import Limits

T = TypeVar("T")


class _Drawn:
    """Choices that Hypothesis makes; see `harness.fuzzing.draws.Chooser`."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        from hypothesis import strategies as st

        return self._draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        from hypothesis import strategies as st

        return self._draw(st.sampled_from(options))


def specs(
    *,
    ops: Sequence[str] = OPS,
    triples: Sequence[tuple[str, str, str]] = DTYPE_TRIPLES,
    limits: Limits | None = None,
    where: Callable[[ConvSpec], bool] | None = None,
    max_flops: int = 400_000,
    max_elements: int = 6_000,
) -> SearchStrategy[ConvSpec]:
    """Valid specifications over the whole lattice.

    Parameters
    ----------
    ops : sequence of str
        Operations.
    triples : sequence of (str, str, str)
        Input, accumulator and output types.
    limits : Limits, optional
        Of a backend: only what it takes (`why_not` is None).
    where : callable, optional
        Any further condition.
    max_flops : int
        The most that a specification may cost, `ConvSpec.flops`.
    max_elements : int
        The most elements of the input and of the output.

    Raises
    ------
    ImportError
        If Hypothesis is missing, with what to install.
    """
    try:
        from hypothesis import reject
        from hypothesis import strategies as st
    except ImportError as e:
        raise ImportError("the strategies need Hypothesis: pip install 'convproof[fuzz]'") from e
    bounds = Bounds(tuple(ops), tuple(triples), max_flops, max_elements)

    @st.composite
    def drawn(draw: DrawFn) -> ConvSpec:
        spec = draw_spec(_Drawn(draw), bounds)
        if spec is None or (limits is not None and limits.why_not(spec)) or (where is not None and not where(spec)):
            reject()
        return spec

    return drawn()
