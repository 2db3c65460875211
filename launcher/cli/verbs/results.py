"""`shardline results`."""

import argparse
import sys
from typing import TYPE_CHECKING

from launcher.cli.verb import Verb, add_run

if TYPE_CHECKING:
    from launcher.records.sweeps import SweepDir
    from launcher.sweep.leaderboard import Leaderboard
    from train.rundir import RunDir


def results(options: argparse.Namespace) -> int:
    """Show the scores of a finished run, or the leaderboard of a sweep, whose trials may still run."""
    from launcher.records.runs import on_run_or_sweep

    return on_run_or_sweep(
        options.run, lambda run: _run_results(options, run), lambda sweep: _sweep_results(options, sweep)
    )


def _run_results(options: argparse.Namespace, run: "RunDir") -> int:
    from launcher.cli.output import make_console, print_json
    from launcher.cli.planned import refuse_sweep_options
    from launcher.cli.show.next import show_next_commands
    from launcher.cli.show.result import show_result
    from launcher.errors import refuse
    from launcher.status.runs import read_status
    from train.result import require_finished, result_row

    refuse_sweep_options(options, ("metric", "sort", "csv", "markdown", "wandb"))
    status = read_status(run)
    if status.state != "COMPLETED":
        raise refuse(
            "run.unfinished",
            "RUN",
            f"{status.run} is {status.state.lower()}: {status.why}",
            f"shardline status {options.run}",
        )
    if options.json:
        print_json(result_row(require_finished(run)))
    else:
        show_result(make_console(), require_finished(run))
        show_next_commands(make_console(), run)
    return 0


def _sweep_results(options: argparse.Namespace, sweep: "SweepDir") -> int:
    from launcher.cli.output import make_console, print_json, print_text
    from launcher.cli.show.sweep import board_as_csv, board_as_markdown, show_board
    from launcher.sweep.board import read_board

    board = read_board(sweep, options.metric, options.sort)
    if options.wandb:
        _publish(sweep, board)
    if options.json:
        print_json(board)
    elif options.csv:
        print_text(board_as_csv(board))
    elif options.markdown:
        print_text(board_as_markdown(board))
    else:
        show_board(make_console(), sweep, board)
    return 0


def _publish(sweep: "SweepDir", board: "Leaderboard") -> None:
    """Send the leaderboard to W&B and print its address to stderr: a program may read the table on stdout."""
    from launcher.cli.output import print_line
    from launcher.cli.show.sweep import board_rows
    from launcher.errors import refuse
    from train.config import TrackingConfig
    from train.measure.tracking import publish_table

    tracking = TrackingConfig.model_validate(sweep.read().base["config"]["tracking"])
    header, *rows = board_rows(board)
    try:
        where = publish_table(tracking, group=board.sweep, directory=sweep.root, columns=header, rows=rows)
    except (ConnectionError, TimeoutError) as error:
        raise refuse(
            "tracking.unreachable",
            "--wandb",
            f"cannot send the table to W&B: {error}",
            "run `wandb login` and check the network, or leave out --wandb to print the table only",
        ) from error
    print_line(f"the table is in W&B run {where}, group {board.sweep}", file=sys.stderr)


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--metric", metavar="M", help="(sweeps) rank the settings by this: loss, macro_f1, ..."
    )
    parser.add_argument("--sort", metavar="KEY", help="(sweeps) sort the rows by a swept key")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="(sweeps) print CSV")
    form.add_argument("--markdown", action="store_true", help="(sweeps) print a Markdown table")
    parser.add_argument("--wandb", action="store_true", help="(sweeps) send the table to W&B as well")


VERB = Verb(
    name="results",
    help="Compare base and tuned model of a finished run; rank the settings of a sweep",
    example="shardline results lr-sweep --metric loss --markdown",
    options=_options,
    run=results,
)
