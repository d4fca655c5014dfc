"""What tuning found, kept: a file a backend, device and driver, read where a backend prepares, written by `convproof tune`.

A result holds for one specification, and for as long as the facts stay what they were that the backend names: device,
driver version, a digest of its kernels. A file under other facts is another file, so that an old result is never used.
Standard library only, for backends import this.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.spec import ConvSpec

#: Names another folder; empty: nothing is read, so that every backend runs by its defaults.
VARIABLE = "CONVPROOF_TUNED"
#: Of the files; one of another format is not read.
FORMAT = 1


class BrokenTable(ValueError):
    """A file that holds no table; the message says what is wrong with it."""


@dataclass(frozen=True)
class Entry:
    """What was found for a specification.

    Attributes
    ----------
    spec, case : str
        For people; the specification's digest is the key.
    settings : mapping of str to int
    default, seconds : float
        Medians of a call by the default settings and by these.
    when : str
        The day, UTC.
    """

    spec: str
    case: str
    settings: Mapping[str, int]
    default: float
    seconds: float
    when: str


@dataclass(frozen=True)
class Table:
    """The results of a backend under some facts.

    Attributes
    ----------
    backend : str
    key : mapping of str to str
        The facts, as `Tunable.tuned_key` tells them.
    entries : mapping of str to Entry
        By the specification's digest.
    """

    backend: str
    key: Mapping[str, str]
    entries: Mapping[str, Entry] = field(default_factory=dict)


def folder() -> Path | None:
    """Where tables are kept; None where they are switched off."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    from platformdirs import user_cache_path

    return user_cache_path("convproof") / "tuned"


def place(backend: str, key: Mapping[str, str]) -> Path | None:
    """The file of a backend's results under these facts; None where tables are switched off."""
    where = folder()
    facts = json.dumps([FORMAT, backend, sorted(key.items())]).encode()
    return None if where is None else where / f"{backend}-{hashlib.blake2b(facts, digest_size=8).hexdigest()}.json"


def read(path: Path) -> Table | None:
    """The table of a file; None where there is none.

    Raises
    ------
    BrokenTable
        If the file cannot be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise BrokenTable(f"its format is {data['format']!r}, this version reads {FORMAT}")
        entries = {str(digest): _entry(values) for digest, values in data["entries"].items()}
        return Table(str(data["backend"]), {str(k): str(v) for k, v in data["key"].items()}, entries)
    except FileNotFoundError:
        return None
    except BrokenTable:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenTable(f"{type(error).__name__}: {error}") from error


def _entry(values: Mapping[str, Any]) -> Entry:
    settings = values["settings"]
    if not isinstance(settings, dict) or not all(type(v) is int for v in settings.values()):
        raise BrokenTable(f"settings are whole numbers by name, not {settings!r}")
    spec, case, when = (str(values[name]) for name in ("spec", "case", "when"))
    return Entry(spec, case, settings, float(values["default"]), float(values["seconds"]), when)


@lru_cache(256)
def _held(path: Path) -> Table | None:
    """The table of a file, read once a process; a broken one is none, with a warning."""
    try:
        return read(path)
    except BrokenTable as error:
        warnings.warn(f"{path} is ignored, nothing in it is used: {error}; `convproof tune` writes it anew", stacklevel=4)
        return None


def find(backend: str, key: Mapping[str, str], spec: ConvSpec) -> Mapping[str, int] | None:
    """The settings that were found for a specification; None where it was not tuned under these facts."""
    path = place(backend, key)
    table = None if path is None else _held(path)
    if table is None or (table.backend, dict(table.key)) != (backend, dict(key)):
        return None
    entry = table.entries.get(spec.digest)
    return None if entry is None else entry.settings


def keep(backend: str, key: Mapping[str, str], spec: ConvSpec, entry: Entry | None) -> Path | None:
    """Write what was found for a specification, or with None that there is nothing; the file, None where switched off.

    A reader finds the old table or the new one, never a part.
    """
    path = place(backend, key)
    if path is None:
        return None
    try:
        table = read(path)
    except BrokenTable:
        table = None
    entries = dict(table.entries) if table else {}
    if entry is None and spec.digest not in entries:
        return path
    entries.pop(spec.digest, None)
    if entry is not None:
        entries[spec.digest] = entry
    data = {"format": FORMAT, "backend": backend, "key": dict(key), "entries": {d: asdict(e) for d, e in entries.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
    _held.cache_clear()
    return path


def tables() -> dict[Path, Table | BrokenTable]:
    """Every file of the folder, with its table or what is wrong with it."""
    where = folder()
    found: dict[Path, Table | BrokenTable] = {}
    for path in sorted(where.glob("*.json")) if where is not None else ():
        try:
            if (table := read(path)) is not None:
                found[path] = table
        except BrokenTable as error:
            found[path] = error
    return found
