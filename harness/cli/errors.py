"""How a command ends when it cannot do what was asked: one line, exit code 2, no traceback.

Only errors that the user can act on are turned into a line. Anything else is a defect of
Convproof, and its traceback is the report.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from harness.text import clean

#: Domain errors that a user can act on: (room, class). Looked up in `sys.modules`, never imported:
#: a room that was not imported cannot have raised.
DOMAIN_ERRORS: tuple[tuple[str, str], ...] = (
    ("harness.catalogue", "CatalogueError"),
    ("harness.catalogue", "SelectionError"),
    ("harness.store", "StoreError"),
    ("harness.registry", "UnknownBackend"),
    ("harness.cli.settings", "SettingsError"),
    ("harness.timing.process", "SideProblem"),
)

#: 128 + SIGINT and 128 + SIGPIPE, as a shell reports a process that the signal ended.
INTERRUPTED = 130
BROKEN_PIPE = 141


class UsageProblem(click.ClickException):
    """What was asked cannot be done; the message says what was got and the way out."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print `convproof: <message>` to standard error; the message may quote foreign text."""
        click.echo(clean(f"convproof: {self.format_message()}"), file=file or sys.stderr)


def domain_errors() -> tuple[type[BaseException], ...]:
    """The classes of `DOMAIN_ERRORS` whose rooms have been imported."""
    found = (getattr(sys.modules.get(room), name, None) for room, name in DOMAIN_ERRORS)
    return tuple(f for f in found if isinstance(f, type) and issubclass(f, BaseException))


@contextmanager
def guarded() -> Iterator[None]:
    """Turn domain errors into `UsageProblem`, Ctrl-C into exit code 130, a closed pipe into 141.

    Examples
    --------
    >>> from harness.registry import Registry
    >>> with guarded():
    ...     Registry({}).reference("nosuch")
    Traceback (most recent call last):
    harness.cli.errors.UsageProblem: unknown backend 'nosuch' Known: none; or FILE.py:NAME, or MODULE:NAME
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        raise click.exceptions.Exit(BROKEN_PIPE) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Exception as error:
        if not isinstance(error, domain_errors()):
            raise
        raise UsageProblem(str(error)) from error


def _silence(stream: IO[str]) -> None:
    """Point `stream` at the null device, so that the flush at exit finds no closed pipe."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
