"""What a message says of a name that is not known: the nearest that is, and all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def alternatives(got: str, what: str, names: Iterable[str]) -> str:
    """The end of a message that begins with what was got.

    Examples
    --------
    >>> alternatives("sed", "keys", ["seed", "store"])
    "did you mean 'seed'? The keys are seed, store"
    >>> alternatives("x", "keys", ["seed", "store"])
    'the keys are seed, store'
    """
    known = list(names)
    near = difflib.get_close_matches(got, known, 1)
    listed = f"he {what} are {', '.join(known)}"
    return f"did you mean {near[0]!r}? T{listed}" if near else f"t{listed}"
