"""`shardline stop`."""

import argparse
from typing import TYPE_CHECKING

from launcher.cli.verb import Verb, add_run

if TYPE_CHECKING:
    from launcher.records.sweeps import SweepDir
    from train.rundir import RunDir


def stop(options: argparse.Namespace) -> int:
    """Ask a run, or the running trials of a sweep, to save and end at the next step."""
    from launcher.records.runs import on_run_or_sweep

    return on_run_or_sweep(
        options.run, lambda run: _stop_run(options, run), lambda sweep: _stop_sweep(options, sweep)
    )


def _stop_run(options: argparse.Namespace, run: "RunDir") -> int:
    from launcher.cli.output import make_console, print_json
    from launcher.lifecycle.cancel import stop_run

    stop_run(run)
    if options.json:
        print_json({"run": run.root.name, "asked": True})
    else:
        make_console().print(
            f"{run.root.name} will save and end at its next step; check with: shardline status {options.run}"
        )
    return 0


def _stop_sweep(options: argparse.Namespace, sweep: "SweepDir") -> int:
    from launcher.cli.output import make_console, print_json
    from launcher.sweep.cancel import stop_sweep

    count = stop_sweep(sweep)
    if options.json:
        print_json({"sweep": sweep.root.name, "asked": count})
    else:
        make_console().print(
            f"{sweep.root.name}: {count} running trials will save and end at their next step;"
            " waiting trials will not start"
        )
    return 0


VERB = Verb(
    name="stop",
    help="Save a run or a sweep at the next step and end it; resume continues it",
    example="shardline stop smoke",
    options=add_run,
    run=stop,
)
