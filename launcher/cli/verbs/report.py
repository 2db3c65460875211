"""`shardline report`."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli.verb import Verb, add_run

if TYPE_CHECKING:
    from launcher.records.sweeps import SweepDir
    from launcher.report.layout import Page
    from train.rundir import JournaledDir, RunDir

_NAME = "report.html"


def report(options: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    from launcher.records.runs import on_run_or_sweep

    return on_run_or_sweep(
        options.run,
        lambda run: _write(options, run, lambda: _run(run, options.metric)),
        lambda sweep: _write(options, sweep, lambda: _sweep(sweep, options.metric)),
    )


def _write(options: argparse.Namespace, home: "JournaledDir", page: "Callable[[], Page]") -> int:
    from launcher.cli.output import make_console, print_json
    from launcher.report.page import render
    from train.rundir import write_atomic

    out = _destination(home, options.out)
    text = render(page())
    if options.out is None:
        home.adopt_umask()
    write_atomic(out, text)
    nbytes = len(text.encode())
    if options.json:
        print_json({"report": str(out), "bytes": nbytes})
    else:
        make_console().print(f"{out}  ({nbytes / 1e6:.1f} MB)", soft_wrap=True, highlight=False, markup=False)
    return 0


def _destination(home: "JournaledDir", wanted: Path | None) -> Path:
    """The file to write: in the run or sweep directory, or the one given with --out.

    Raises:
        Refused: the file cannot be written.
    """
    from launcher.errors import refuse
    from launcher.records.runs import ensure_ours

    if wanted is None:
        ensure_ours(home)
        return home.root / _NAME
    out = wanted.expanduser().resolve()
    if out.is_dir():
        raise refuse("report.out", "--out", f"{out} is a folder", f"give a file name: --out {out / _NAME}")
    if not out.parent.is_dir():
        raise refuse(
            "report.out", "--out", f"no such folder: {out.parent}", "create it, or give another file"
        )
    if not os.access(out.parent, os.W_OK):
        raise refuse(
            "report.out", "--out", f"no permission to write to {out.parent}", "give a file in another folder"
        )
    return out


def _sweep(sweep: "SweepDir", metric: str | None) -> "Page":
    """The page of a sweep."""
    from launcher.report.gather import gather_sweep
    from launcher.report.sweep_page import sweep_page
    from launcher.status.trials import read_sweep
    from launcher.sweep.board import board_of
    from launcher.sweep.results import trial_results

    file = sweep.read()
    results = trial_results(sweep, file, read_sweep(sweep, file))
    return sweep_page(gather_sweep(sweep, file, results, board_of(sweep, file, results, metric)))


def _run(run: "RunDir", metric: str | None) -> "Page":
    """The page of a single run."""
    from launcher.errors import refuse
    from launcher.report.gather import gather_run
    from launcher.report.run_page import run_page
    from launcher.status.runs import read_status

    if metric is not None:
        raise refuse(
            "report.metric",
            "--metric",
            f"--metric has no effect on a single run, and {run.root.name} is one",
            "leave it out",
        )
    return run_page(gather_run(run, read_status(run)))


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write it (default: report.html in the run or sweep directory)",
    )
    parser.add_argument(
        "--metric", metavar="M", help="(sweeps) rank the settings by this (default: as `results` does)"
    )


VERB = Verb(
    name="report",
    help="Write one HTML page with the results and curves of a run or a sweep; it opens offline",
    example="shardline report smoke --out report.html",
    options=_options,
    run=report,
)
