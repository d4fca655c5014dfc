"""Foreign text made harmless: what backends, drivers and case files say, wherever it is shown."""

from __future__ import annotations

import re

# CSI and OSC sequences (ECMA-48, 5.4 and 8.3.89), two-character escapes, then whatever control is left.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What UTF-8 and XML 1.0 (section 2.2) have no place for: surrogates and two noncharacters.
_UNWRITABLE = re.compile(r"[\ud800-\udfff\ufffe\uffff]")


def clean(text: object) -> str:
    r"""`text` without ANSI escapes, control characters and bidirectional overrides; newline and tab stay.

    Examples
    --------
    >>> clean("a\x1b[31mred\x1b[0m\x07b")
    'aredb'
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", str(text)))


def writable(text: object, limit: int | None = None) -> str:
    r"""`clean` text that UTF-8 and XML can hold, cut after `limit` characters with a word of how much is left out.

    Examples
    --------
    >>> writable("a\ud800b\ufffe"), writable("abcdef", 4)
    ('ab', 'abcd... (2 characters more)')
    """
    whole = str(text)
    if whole.isprintable() and (limit is None or len(whole) <= limit):
        return whole  # most text; no control, surrogate or noncharacter is printable
    head = whole if limit is None else whole[: 2 * limit]  # room for what is stripped; a megabyte is not read whole
    shown = _UNWRITABLE.sub("", clean(head))
    if limit is None or (len(whole) == len(head) and len(shown) <= limit):
        return shown
    shown = shown[:limit]
    return f"{shown}... ({len(whole) - len(shown)} characters more)"
