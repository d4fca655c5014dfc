"""What the benchmarks run over: `parameters.json`, a static file.

asv lists the parameters once and hands a worker an index. Parameters read from the package under test would be
another list at an older commit, and the index would then give its figure to another case. The file lies in this
folder, which asv takes from the working tree whatever commit it has installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("parameters.json")
#: Between a case's id and the digest of its content.
MARK = "@"


@dataclass(frozen=True)
class Parameters:
    """The axes of every benchmark, and what does not vary.

    Attributes
    ----------
    cases : tuple of str
        `<id>@<version>`: an edited case has another version, and so begins a series of its own.
    backends : tuple of str
        Names, or references as `convproof verify --backend` takes them.
    seed : int
        What the data are drawn from; pinned, so that a series of errors changes with the code alone.
    threads : int
        That libraries may use.
    """

    cases: tuple[str, ...]
    backends: tuple[str, ...]
    seed: int
    threads: int

    def text(self) -> str:
        """As JSON, a value a line, so that a change is one line of a diff."""
        held = {"cases": self.cases, "backends": self.backends, "seed": self.seed, "threads": self.threads}
        return json.dumps(held, indent=2) + "\n"


def read(path: Path = FILE) -> Parameters:
    """The parameters that `generate` wrote."""
    held = json.loads(path.read_text(encoding="utf-8"))
    return Parameters(tuple(held["cases"]), tuple(held["backends"]), held["seed"], held["threads"])


def labelled(case: str, version: str) -> str:
    """The id that carries the version.

    Examples
    --------
    >>> labelled("perf-vgg16-pool3", "e19367e549c7a7d4")
    'perf-vgg16-pool3@e19367e549c7a7d4'
    """
    return f"{case}{MARK}{version}"


def parted(label: str) -> tuple[str, str]:
    """The case and the version of such an id.

    Examples
    --------
    >>> parted("perf-vgg16-pool3@e19367e549c7a7d4")
    ('perf-vgg16-pool3', 'e19367e549c7a7d4')
    """
    case, _, version = label.rpartition(MARK)
    return case, version
