"""`shardline refine`."""

import argparse

from launcher.cli.completers import complete_sweeps
from launcher.cli.verb import Verb, completed_by


def refine(options: argparse.Namespace) -> int:
    """Print the next sweep, why, and the command that starts it."""
    from launcher.cli.output import make_console, print_json
    from launcher.cli.show.sweep import show_proposal
    from launcher.records.runs import find_sweep
    from launcher.sweep.board import read_board
    from launcher.sweep.refine import propose

    sweep = find_sweep(options.sweep)
    proposal = propose(sweep.read().overrides, read_board(sweep, options.metric, None))
    if options.json:
        print_json(proposal)
    else:
        show_proposal(make_console(), proposal)
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    sweep = parser.add_argument(
        "sweep", metavar="SWEEP", help="a sweep: its name, the start of its name, or its directory"
    )
    completed_by(sweep, complete_sweeps)
    parser.add_argument(
        "--metric", metavar="M", help="rank the settings by this (default: as `results` does)"
    )


VERB = Verb(
    name="refine",
    help="Propose the next sweep around the best setting, as a command",
    example="shardline refine lr-sweep",
    options=_options,
    run=refine,
)
