"""What `convproof show` draws: from a specification and arrays to a page, and from a page to a terminal or HTML.

Pure: nothing here runs a backend or reads a file. `VIEWS` holds the functions that make a section.
"""

from collections.abc import Callable, Mapping, Sequence

from reports.show.matrices import circulant, im2col, shifts, toeplitz
from reports.show.model import Image, Page, Party, Section, Subject, Table
from reports.show.outputs import output

#: What `--as` names.
VIEWS: Mapping[str, Callable[[Subject, Sequence[Party]], Section]] = {
    "toeplitz": toeplitz,
    "im2col": im2col,
    "circulant": circulant,
    "shift": shifts,
    "output": output,
}

__all__ = ["VIEWS", "Image", "Page", "Party", "Section", "Subject", "Table"]
