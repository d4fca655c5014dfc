"""`convproof asv-export`: a stored run as results of airspeed velocity."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from harness.cli.console import clean
from harness.cli.errors import UsageProblem
from harness.cli.settings import load_settings

#: `results_dir` of the repository's asv.conf.json.
_RESULTS = Path(".asv", "results")


@click.command("asv-export", short_help="Write a stored benchmark as results of asv.")
@click.argument("run")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), help="asv's results_dir; .asv/results of --repo.")
@click.option(
    "--repo", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".", help="Whose history asv shows."
)
@click.option("--commit", default="", metavar="NAME", help="What was measured, where the run does not say.")
@click.option("--machine", default="", metavar="NAME", help="A name for the machine, instead of its processor's.")
@click.option("--dirty-ok", is_flag=True, help="Take a tree with changes for its commit.")
def command(run: str, results: Path | None, repo: Path, commit: str, machine: str, dirty_ok: bool) -> None:
    """Write a stored benchmark as results of asv.

    RUN is as for `convproof runs`. Time, GFLOP/s and the error in units of its bound, of every case on every backend,
    join what the folder holds of the commit; `python -m reports.benchmarks.publish` makes the page and fails on a
    regression. Refused are a run without timings, a tree with changes, and a shallow clone, of which asv would
    publish no regression.
    """
    from harness.store.frames import load
    from harness.store.model import default_path
    from reports import asv, asv_files

    try:
        loaded = load(run, default_path(load_settings().store))
        values = asv.values_of(loaded)
        found = asv.commit_of(loaded.info.get("environment") or {}, repo, commit, dirty_ok=dirty_ok)
        place = asv.place_of(loaded.info, (t.threads for t in loaded.raw), machine)
        started = int(datetime.fromisoformat(str(loaded.info["started"])).timestamp() * 1000)
        written = asv_files.write(results or repo / _RESULTS, place, found, values, started)
    except ImportError as error:
        raise UsageProblem(str(error)) from error
    except asv_files.AsvError as error:
        raise UsageProblem(str(error)) from error
    held = values[asv_files.PREFIX + "time"].values()
    failed = sum(v.result is None for v in held)
    click.echo(
        f"{len(held)} pairs of case and backend, {failed} failed, of commit {found.hash[:8]} in {clean(written)}", err=True
    )
