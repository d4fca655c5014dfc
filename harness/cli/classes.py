"""What a run measured of the backends' algorithm classes, in lines."""

from __future__ import annotations

from collections.abc import Mapping

from harness.backend import BackendInfo


def class_lines(infos: Mapping[str, BackendInfo | None], classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each backend whose measured algorithm class is not the one that it declares.

    Parameters
    ----------
    infos : mapping of str to BackendInfo or None
        By backend.
    classes : mapping of str to mapping of str to int
        By backend: on how many cases the check `algorithm_class` measured each class. `transform` is an FFT or Winograd
        and confirms either; `imprecise` says nothing.

    Examples
    --------
    >>> from harness.backend import FFT, BackendInfo
    >>> infos = {"a": BackendInfo("a"), "b": BackendInfo("b", algorithm=FFT)}
    >>> class_lines(infos, {"a": {"direct": 9, "winograd": 3}, "b": {"direct": 2, "transform": 5}})
    ['a: declared direct, measured winograd on 3 of 12 cases']
    """
    lines = []
    for name, counts in classes.items():
        if (info := infos.get(name)) is None:
            continue
        told = {kind: n for kind, n in counts.items() if kind != "imprecise" and n}
        declared = info.algorithm.kind
        confirms = {declared} if declared == "direct" else {declared, "transform"}
        if info.transforms:  # it chooses, and a direct sum is among its choices
            confirms.add("direct")
        other = {kind: n for kind, n in told.items() if kind not in confirms}
        if other and (declared == "direct" or not confirms & told.keys()):
            found = " and ".join(f"{kind} on {n}" for kind, n in sorted(other.items()))
            lines.append(f"{name}: declared {info.algorithm}, measured {found} of {sum(told.values())} cases")
    return lines
