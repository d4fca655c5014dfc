"""What `convproof show` draws: from a specification and arrays to a page, and from a page to a terminal or HTML.

Pure: nothing here runs a backend or reads a file. `views` holds the functions that make a section.
"""

from reports.show.model import Image, Page, Party, Section, Subject, Table

__all__ = ["Image", "Page", "Party", "Section", "Subject", "Table"]
