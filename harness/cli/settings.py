"""Settings of a project: `convproof.toml`, or `[tool.convproof]` of its pyproject.toml.

The nearest file at or above the working directory counts, and no other. Paths in it are relative
to it. A plain frozen dataclass, validated by hand: it is read by every command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.cli.units import parse_bytes, parse_seconds
from harness.cli.words import alternatives
from harness.run.limits import usable_cores

#: Judging is work of one process: more workers than this would wait for it.
MOST_WORKERS = 4


class SettingsError(ValueError):
    """A settings file that cannot be used; the message holds file, line and the way out."""


@dataclass(frozen=True)
class Settings:
    """What a project has settled, or the defaults.

    Attributes
    ----------
    suite : tuple of str
        What is selected where the command line selects nothing: suites, ids or globs.
    seed : int, optional
        Pins the data; None draws a fresh seed a run.
    store : Path, optional
        The database of runs; None is the store's default place.
    backends : tuple of str
        Backends to run where the command line names none; empty means every installed one.
    require : tuple of str
        Backends that must be available.
    jobs : int, optional
        Workers at once; None is two workers a core, at most `MOST_WORKERS`, see `workers`.
    judges : int, optional
        Processes that judge what workers give, 0 for the main one alone; None is one for two workers in runs that repay it.
    threads : int
        Threads of a worker.
    timeout : float
        Seconds that one call of a backend may take.
    memory : int
        Bytes that a worker may hold.
    cases : tuple of Path
        More case files, or folders of them.
    waivers : Path, optional
        Known failures, see `harness.catalogue.waivers`.
    give_up_after : int
        Crashes, hangs or exhausted memories after which a backend is not tried further.
    source : Path, optional
        The file that was read; None for the defaults.
    """

    suite: tuple[str, ...] = ("gate",)
    seed: int | None = None
    store: Path | None = None
    backends: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    jobs: int | None = None
    judges: int | None = None
    threads: int = 2
    timeout: float = 30.0
    memory: int = 2 << 30
    cases: tuple[Path, ...] = ()
    waivers: Path | None = None
    give_up_after: int = 3
    source: Path | None = None

    @property
    def workers(self) -> int:
        """`jobs`, or two a core that this process may use, at most `MOST_WORKERS`.

        Workers wait for their turn to be judged more than they compute, so that `threads` does not count here; with two
        a core one computes while another is judged (measured: a quarter less time than with one).
        """
        return self.jobs or min(2 * usable_cores(), MOST_WORKERS)


def load_settings(start: Path | None = None) -> Settings:
    """Read the settings that hold in `start`.

    Parameters
    ----------
    start : Path, optional
        A folder; default the working directory.

    Raises
    ------
    SettingsError
        If the file is no TOML, or holds an unknown key or a value of the wrong kind.
    """
    for folder in _upward(start):
        own, project = folder / "convproof.toml", folder / "pyproject.toml"
        tables = [(p, t) for p, t in ((own, _read(own)), (project, _section(_read(project), project))) if t is not None]
        if len(tables) > 1:
            raise SettingsError(f"{own} and [tool.convproof] of {project} both hold settings: keep one of them")
        if tables:
            return _settings(*reversed(tables[0]))
    return Settings()


def _upward(start: Path | None) -> list[Path]:
    try:
        folder = (start or Path.cwd()).resolve()
    except FileNotFoundError:
        raise SettingsError("the working directory has been removed: cd to one that exists") from None
    return [folder, *folder.parents]


def _read(path: Path) -> dict[str, Any] | None:
    """The file as TOML; None where there is none."""
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def _section(table: dict[str, Any] | None, path: Path) -> dict[str, Any] | None:
    tool = (table or {}).get("tool", {})
    found = tool.get("convproof") if isinstance(tool, dict) else None
    if found is not None and not isinstance(found, dict):
        raise SettingsError(f"{path}: tool.convproof is {_kind(found)}: write a table, [tool.convproof]")
    return found


def _settings(table: Mapping[str, Any], path: Path) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _PARSERS:
            raise SettingsError(f"{_place(path, key)}: unknown key {key!r}: {alternatives(key, 'keys', _PARSERS)}")
        try:
            values[key] = _PARSERS[key](value, path.parent)
        except ValueError as error:
            raise SettingsError(f"{_place(path, key)}: {key} {error}") from None
    return Settings(**values, source=path)


def _place(path: Path, key: str) -> str:
    """`FILE:LINE` of the first line that sets `key`; `FILE` if none is found so."""
    pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=|\s*\[(tool\.convproof\.)?{re.escape(key)}\]")
    lines = path.read_text(encoding="utf-8").splitlines()
    heading = next((i for i, line in enumerate(lines) if line.strip() == "[tool.convproof]"), 0)
    for number, line in enumerate(lines[heading:], heading + 1):
        if pattern.match(line):
            return f"{path}:{number}"
    return str(path)


# --- a parser a kind of value: (value, folder of the file) -> value, or ValueError("is ...: write ...") ---


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array", dict: "a table"}
    return names.get(type(value), type(value).__name__)


def _string(value: Any, folder: Path) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"holds {value!r}, {_kind(value)}: write a string that is not empty")
    return value


def _strings(value: Any, folder: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"is {_kind(value)}: write a string or an array of strings")
    return tuple(_string(v, folder) for v in value)


def _path(value: Any, folder: Path) -> Path:
    return folder / Path(_string(value, folder)).expanduser()


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    return tuple(_path(v, folder) for v in _strings(value, folder))


def _references(value: Any, folder: Path) -> tuple[str, ...]:
    """Backends; the file of `FILE.py:NAME` is relative to the settings file."""

    def anchored(text: str) -> str:
        file, sep, name = text.rpartition(":")
        return f"{folder / Path(file).expanduser()}:{name}" if sep and file.endswith(".py") else text

    return tuple(anchored(v) for v in _strings(value, folder))


def _integer(least: int) -> Callable[[Any, Path], int]:
    def parse(value: Any, folder: Path) -> int:
        if type(value) is not int or value < least:
            raise ValueError(f"is {value!r}: write an integer of {least} or more")
        return value

    return parse


def _quantity(parse_text: Callable[[str], float], example: str) -> Callable[[Any, Path], Any]:
    def parse(value: Any, folder: Path) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"is {_kind(value)}: write a number or {example!r}")
        # A float's text goes through the same parser, so that inf and nan are refused there.
        found = parse_text(str(value))
        if found <= 0:
            raise ValueError(f"is {value!r}: write more than 0")
        return found

    return parse


_PARSERS: dict[str, Callable[[Any, Path], Any]] = {
    "suite": _strings,
    "seed": _integer(0),
    "store": _path,
    "backends": _references,
    "require": _references,
    "jobs": _integer(1),
    "judges": _integer(0),
    "threads": _integer(1),
    "timeout": _quantity(parse_seconds, "30s"),
    "memory": _quantity(parse_bytes, "2GB"),
    "cases": _paths,
    "waivers": _path,
    "give_up_after": _integer(1),
}
assert set(_PARSERS) == {f.name for f in fields(Settings)} - {"source"}
