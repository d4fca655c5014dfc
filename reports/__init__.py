"""Records made readable: tables, pages, plots."""
