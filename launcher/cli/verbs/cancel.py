"""`shardline cancel`."""

import argparse
from typing import TYPE_CHECKING

from launcher.cli.verb import Verb, add_run

if TYPE_CHECKING:
    from launcher.records.sweeps import SweepDir
    from train.rundir import RunDir


def cancel(options: argparse.Namespace) -> int:
    """Kill a run, or all trials of a sweep, waiting or running."""
    from launcher.records.runs import on_run_or_sweep

    return on_run_or_sweep(
        options.run, lambda run: _cancel_run(options, run), lambda sweep: _cancel_sweep(options, sweep)
    )


def _cancel_run(options: argparse.Namespace, run: "RunDir") -> int:
    from launcher.cli.output import make_console, print_json
    from launcher.lifecycle.cancel import cancel_run

    cancelled = cancel_run(run)
    if options.json:
        print_json({"run": run.root.name, "cancelled": cancelled})
    else:
        make_console().print(f"{run.root.name} {'was cancelled' if cancelled else 'was not running'}")
    return 0


def _cancel_sweep(options: argparse.Namespace, sweep: "SweepDir") -> int:
    from launcher.cli.output import make_console, print_json
    from launcher.sweep.cancel import cancel_sweep

    count = cancel_sweep(sweep)
    if options.json:
        print_json({"sweep": sweep.root.name, "cancelled": count})
    else:
        make_console().print(f"{sweep.root.name}: {count} trials were cancelled")
    return 0


VERB = Verb(
    name="cancel",
    help="Kill a run or a sweep, waiting or running; saved checkpoints are kept",
    example="shardline cancel smoke",
    options=add_run,
    run=cancel,
)
