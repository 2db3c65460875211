"""The verb that writes a report. Imports wait until it is needed."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli.output import make_console, print_json

if TYPE_CHECKING:
    from launcher.records.sweeps import SweepDir
    from launcher.report.layout import Page
    from train.rundir import JournaledDir, RunDir

_NAME = "report.html"


def report(options: argparse.Namespace) -> int:
    """Write one HTML file that tells what a run or a sweep came to; it opens without a network."""
    from launcher.records.runs import find
    from launcher.records.sweeps import SweepDir
    from launcher.report.page import render
    from train.rundir import write_atomic

    home = find(options.run)
    out = _place(home, options.out)
    page = _sweep(home, options.metric) if isinstance(home, SweepDir) else _run(home, options.metric)
    text = render(page)
    if options.out is None:
        home.adopt_umask()
    write_atomic(out, text)
    nbytes = len(text.encode())
    if options.json:
        print_json({"report": str(out), "bytes": nbytes})
    else:
        make_console().print(f"{out}  ({nbytes / 1e6:.1f} MB)", soft_wrap=True, highlight=False, markup=False)
    return 0


def _place(home: "JournaledDir", wanted: Path | None) -> Path:
    """Where it is written: beside what it tells of, or where the user says.

    Raises:
        Refused: it cannot be written there.
    """
    from launcher.errors import refuse
    from launcher.records.runs import ensure_ours

    if wanted is None:
        ensure_ours(home)
        return home.root / _NAME
    out = wanted.expanduser().resolve()
    if out.is_dir():
        raise refuse("report.out", "--out", f"{out} is a folder", f"name a file in it: {out / _NAME}")
    if not out.parent.is_dir():
        raise refuse("report.out", "--out", f"there is no folder {out.parent}", "make it, or name another")
    if not os.access(out.parent, os.W_OK):
        raise refuse("report.out", "--out", f"{out.parent} cannot be written to", "name another folder")
    return out


def _sweep(sweep: "SweepDir", metric: str | None) -> "Page":
    from launcher.report.gather import gather_sweep
    from launcher.report.sweep_page import sweep_page
    from launcher.status.trials import read_sweep
    from launcher.sweep.board import board_of
    from launcher.sweep.results import trial_results

    file = sweep.read()
    results = trial_results(sweep, file, read_sweep(sweep, file))
    return sweep_page(gather_sweep(sweep, file, results, board_of(sweep, file, results, metric)))


def _run(run: "RunDir", metric: str | None) -> "Page":
    from launcher.errors import refuse
    from launcher.report.gather import gather_run
    from launcher.report.run_page import run_page
    from launcher.status.runs import read_status

    if metric is not None:
        raise refuse(
            "report.metric", "--metric", f"{run.root.name} is a single run: nothing is ranked", "leave it out"
        )
    return run_page(gather_run(run, read_status(run)))
