"""How a person names a run: `last`, `last~N`, an id or the beginning of one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from harness.store.model import StoreError


def pick(run: str, ids: Sequence[str], where: object) -> str:
    """The id that `run` stands for.

    Parameters
    ----------
    run : str
    ids : sequence of str
        Of all runs, the newest first.
    where : object
        The store, for the message.

    Raises
    ------
    StoreError
        If it stands for none, or for several.

    Examples
    --------
    >>> pick("last~1", ["20261123-080000-11aa", "20261122-133301-5f2a"], "runs.sqlite")
    '20261122-133301-5f2a'
    """
    if run in ids:
        return run
    if not ids:
        raise StoreError(f"no run {run!r}: store {where} holds none yet; `convproof verify` writes one")
    if match := re.fullmatch(r"last(?:~([0-9]+))?", run):
        back = int(match[1] or 0)
        if back < len(ids):
            return ids[back]
        raise StoreError(f"no run {run!r}: store {where} holds {len(ids)}; the oldest is last~{len(ids) - 1}, {ids[-1]}")
    starts = [i for i in ids if run and i.startswith(run)]
    if len(starts) == 1:
        return starts[0]
    if starts:
        shown = ", ".join(starts[:4]) + (", ..." if len(starts) > 4 else "")
        raise StoreError(f"run {run!r} stands for {len(starts)} runs: {shown}; write more of the id")
    near = difflib.get_close_matches(run, ids, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise StoreError(f"no run {run!r} in store {where}; {hint}The newest is {ids[0]} (`last`)")
