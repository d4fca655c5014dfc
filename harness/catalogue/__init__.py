"""The catalogue: YAML files of cases, read with places, validated, expanded and selected.

Apart from the rest so that a case is data: nothing here runs a convolution, and only the
specification is imported.
"""

from harness.catalogue.case import NESTED, SUITES, Case, Literal, Matrix, Photo
from harness.catalogue.catalogue import Catalogue, load_catalogue, packaged_files
from harness.catalogue.errors import CatalogueError, SelectionError
from harness.catalogue.load import load_file

__all__ = [
    "NESTED",
    "SUITES",
    "Case",
    "Catalogue",
    "CatalogueError",
    "Literal",
    "Matrix",
    "Photo",
    "SelectionError",
    "load_catalogue",
    "load_file",
    "packaged_files",
]
