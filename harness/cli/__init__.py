"""The command line: a group whose commands are imported only when they run.

`convproof --help` lists names and help lines from the table below and imports no command, so
that it costs Python, click and nothing else. Each command has a module of this package, which
holds a click command called `command` whose help begins with the table's line.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from harness import __version__
from harness.cli.errors import UsageProblem, guarded
from harness.cli.words import alternatives

#: Command name to (module, one-line help), in the order of the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "verify": ("harness.cli.verify", "Run cases through backends and judge every output."),
    "bench": ("harness.cli.bench", "Verify cases, then time them."),
    "compare": ("harness.cli.compare", "Say whether one side is slower or less accurate."),
    "tune": ("harness.cli.tune", "Choose a device's fastest settings among those that are right."),
    "fuzz": ("harness.cli.fuzz", "Run random cases until the time is over, and shrink what fails."),
    "explain": ("harness.cli.explain", "Say what is wrong with an output, and where."),
    "repro": ("harness.cli.repro", "Repeat one job and show what it computed."),
    "report": ("harness.cli.report_run", "Write a stored run as JUnit XML, Markdown or a page."),
    "asv-export": ("harness.cli.asv_export", "Write a stored benchmark as results of asv."),
    "show": ("harness.cli.show", "Draw a case as a matrix or a picture."),
    "list": ("harness.cli.list", "List backends, devices, cases, suites or checks."),
    "selftest": ("harness.cli.selftest", "Plant faults and see which check kills each."),
    "runs": ("harness.cli.runs", "List, merge, export and prune the stored runs."),
    "doctor": ("harness.cli.doctor", "Report what this machine can run, and what to do about the rest."),
}


class LazyGroup(click.Group):
    """A group over a table of commands, each imported on its first use."""

    def __init__(self, commands: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the table's order."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command called `cmd_name`, or None."""
        if cmd_name not in self.table:
            return None
        found = importlib.import_module(self.table[cmd_name][0]).command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest name in the message."""
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            raise UsageProblem(f"there is no command {name!r}: {alternatives(name, 'commands', self.table)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's help lines; no command is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that the user can act on becomes one line and exit code 2."""
        with guarded():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's; a terminal that lacks a character gets `?`, not a traceback."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        return super().main(*args, **kwargs)


_EPILOG = "Exit codes: 0 all that was wanted passes; 1 something fails; 2 usage; 3 nothing could be verified."

main = LazyGroup(
    COMMANDS,
    name="convproof",
    help="Says whether an implementation of convolution is right, how wrong it is, why, and how fast.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, prog_name="convproof", message="%(prog)s %(version)s")(main)
