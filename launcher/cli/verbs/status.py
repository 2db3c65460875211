"""`shardline status`."""

import argparse
from typing import TYPE_CHECKING

from launcher.cli.verb import Verb, add_run

if TYPE_CHECKING:
    from rich.console import Console


def status(options: argparse.Namespace) -> int:
    """Show the state of the named runs and sweeps, or of all; with --watch until all have ended."""
    from launcher.cli.output import make_console, print_json
    from launcher.cli.show.runs import show_overview
    from launcher.status.overview import read_overview
    from launcher.status.state import ALIVE

    def show(console: "Console") -> bool:
        overview = read_overview(options.run)
        if options.json:
            print_json(overview.statuses)
        else:
            show_overview(console, overview, everything=options.all)
        return any(status.state in ALIVE for status in overview.statuses)

    if options.watch:
        from launcher.cli.follow import repeat

        repeat(make_console(), show, every_s=5.0)
    else:
        show(make_console())
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser, nargs="*")
    parser.add_argument("--all", action="store_true", help="list every run, not just recent and active ones")
    parser.add_argument(
        "--watch", action="store_true", help="refresh every five seconds until all runs have ended"
    )


VERB = Verb(
    name="status",
    help="Show state, step, attempts, nodes and reasons of runs",
    example="shardline status smoke",
    options=_options,
    run=status,
)
