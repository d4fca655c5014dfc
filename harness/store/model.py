"""What the store says of a run: its facts, its row, its errors. No database is imported here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records import Status

#: Names another store than the setting `store` and the default place.
STORE_VARIABLE = "CONVPROOF_STORE"


#: Relative to the current directory.
DEFAULT_PATH = Path(".convproof", "runs.sqlite")


class StoreError(ValueError):
    """The store can't do what was asked; the message says where, why and the way out."""


def default_path(setting: Path | None = None) -> Path:
    """Where the store is unless the caller names one.

    Parameters
    ----------
    setting : Path, optional
        The project's setting `store`.

    Returns
    -------
    Path
        The value of the environment's `CONVPROOF_STORE`, else the setting, else `.convproof/runs.sqlite`
        in the current directory: a run belongs to the project whose backends it judged.
    """
    named = os.environ.get(STORE_VARIABLE)
    return Path(named).expanduser() if named else setting or DEFAULT_PATH


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run when it begins.

    Attributes
    ----------
    seed : int
        What its data are drawn from.
    command : tuple of str
        The command line, `convproof` included.
    version : str
        Of Convproof.
    selection : tuple of str
        Suites and patterns that were asked for.
    jobs_planned : int
    environment : mapping
        Python, platform, processor, packages, git commit, ...: names to JSON's types.
    started : str
        UTC, ISO 8601, as `2026-11-22T13:33:01Z`; empty means now.
    host : str
        Fingerprint of the machine: figures of two runs compare only where it agrees.
    """

    seed: int
    command: tuple[str, ...] = ()
    version: str = ""
    selection: tuple[str, ...] = ()
    jobs_planned: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    host: str = ""


@dataclass(frozen=True)
class RunRow:
    """A run as it stands in the store.

    Attributes
    ----------
    id : str
        As `20261122-133301-5f2a`: when it began (UTC), and four random hexadecimal digits.
    info : RunInfo
    counts : mapping of Status to int
        Rows a status; statuses that no row has are left out.
    exit_code : int, optional
        None until it is finished: it runs still, or was interrupted.
    seconds : float
        Wall time of its sittings that were finished.
    """

    id: str
    info: RunInfo
    counts: Mapping[Status, int] = field(default_factory=dict)
    exit_code: int | None = None
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether its last sitting came to its end."""
        return self.exit_code is not None

    @property
    def recorded(self) -> int:
        """How many jobs have a row."""
        return sum(self.counts.values())
