"""What the verbs do with sweeps: each takes parsed options and returns an exit code.

Imports wait until a verb needs them, so that `--help` answers at once.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from launcher.cli.output import make_console, print_json, tell_plan

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.errors import Problem
    from launcher.records.sweeps import SweepDir
    from launcher.status.runs import RunStatus
    from launcher.sweep.leaderboard import Leaderboard
    from launcher.sweep.plan import SweepPlan
    from launcher.sweep.start import SweepSubmission


def is_sweep(options: argparse.Namespace) -> bool:
    """Whether several trials are asked for: -m, or folds without saying which one."""
    named = {text.partition("=")[0].lstrip("+") for text in options.overrides}
    folds = "cv.folds" in named and "cv.fold" not in named
    return bool(options.multirun or folds)


def plan(options: argparse.Namespace) -> int:
    """Show what a sweep would submit; creates nothing."""
    from launcher.cli.show_sweep import plan_as_json, show_plan

    return tell_plan(options, *_planned(options), plan_as_json, show_plan)


def submit(options: argparse.Namespace) -> int:
    """Plan a sweep and start what is missing of it; returns at once."""
    from launcher.errors import Refused
    from launcher.planning.preflight import exit_code_for
    from launcher.sweep.start import Which, submit_sweep

    made, problems = _planned(options)
    if problems or made is None:
        raise Refused(problems, exit_code_for(problems))
    which: Which = "all" if options.all else "failed" if options.failed else "missing"
    return _after_start(options, submit_sweep(made, which))


def _planned(options: argparse.Namespace) -> "tuple[SweepPlan | None, list[Problem]]":
    from launcher.compose.sweep import compose_sweep
    from launcher.sweep.plan import plan_sweep
    from launcher.sweep.submit_arrays import ask_the_queue

    made, problems = plan_sweep(compose_sweep(options.overrides, options.conf))
    if made and not problems:
        problems = list(ask_the_queue(made))
    return made, problems


def _after_start(options: argparse.Namespace, done: "SweepSubmission") -> int:
    from launcher.cli.show_sweep import show_submission, submission_as_json
    from train.failures import ExitCode

    console = make_console()
    if not options.json:
        show_submission(console, done)
    code = int(ExitCode.REFUSED) if done.refused else 0
    if options.follow and not done.refused:
        code = _follow(options, done.sweep)
    if options.json:
        print_json(submission_as_json(done))
    return code


def _follow(options: argparse.Namespace, sweep: "SweepDir") -> int:
    """Watch until every trial has ended; 0 if all are finished or stopped by halving."""
    from launcher.cli.follow import repeat
    from launcher.cli.show_sweep import progress_line
    from launcher.records.runs import name_to_type
    from launcher.status.queue import RecentView
    from launcher.status.state import ALIVE
    from launcher.status.trials import read_sweep
    from train.failures import ExitCode

    file, recent = sweep.read(), RecentView()
    statuses: list[RunStatus] = []
    shown: list[str] = []

    def show(console: "Console") -> bool:
        statuses[:] = read_sweep(sweep, file, recent.look)
        line = progress_line(statuses)
        if not options.json and line not in shown[-1:]:
            console.print(line, highlight=False)
        shown[:] = [line]
        return any(status.state in ALIVE for status in statuses)

    try:
        repeat(make_console(), show, every_s=1.0, clear=False)
    except KeyboardInterrupt:
        make_console().print(f"\nthe sweep goes on; look again: shardline status {name_to_type(sweep)}")
        return 130
    if not options.json:
        _show_results(make_console(), sweep)
    failed = [status for status in statuses if status.state in ("FAILED", "CANCELLED")]
    return int(ExitCode.RUN_FAILED) if failed else 0


def results(options: argparse.Namespace, sweep: "SweepDir") -> int:
    """One row per setting, what each key does, and which to take; works while trials still run."""
    from launcher.cli.show_sweep import board_as_csv, board_as_markdown, show_board
    from launcher.sweep.board import read_board

    board = read_board(sweep, options.metric, options.sort)
    if options.wandb:
        _publish(sweep, board)
    if options.json:
        print_json(board)
    elif options.csv:
        print(board_as_csv(board), end="")
    elif options.markdown:
        print(board_as_markdown(board), end="")
    else:
        show_board(make_console(), sweep, board)
    return 0


def _publish(sweep: "SweepDir", board: "Leaderboard") -> None:
    from launcher.cli.show_sweep import board_rows
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
            f"W&B did not take the table: {error}",
            "`wandb login`, and look at the network; without --wandb the table is shown here",
        ) from error
    # Beside the table, which a program may read.
    print(f"the table is in W&B run {where}, group {board.sweep}", file=sys.stderr)


def _show_results(console: "Console", sweep: "SweepDir") -> None:
    from launcher.cli.show_sweep import show_board
    from launcher.sweep.board import read_board

    console.print()
    show_board(console, sweep, read_board(sweep, None, None))


def refine(options: argparse.Namespace) -> int:
    """Propose the next sweep around the best setting, as the command that runs it."""
    from launcher.cli.show_sweep import show_proposal
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


def cancel(options: argparse.Namespace, sweep: "SweepDir") -> int:
    """Kill all trials that wait or run."""
    from launcher.sweep.cancel import cancel_sweep

    count = cancel_sweep(sweep)
    if options.json:
        print_json({"sweep": sweep.root.name, "cancelled": count})
    else:
        make_console().print(f"{count} trials of {sweep.root.name} were cancelled", highlight=False)
    return 0


def stop(options: argparse.Namespace, sweep: "SweepDir") -> int:
    """Ask all running trials to save and end; none that waits will start."""
    from launcher.sweep.cancel import stop_sweep

    count = stop_sweep(sweep)
    if options.json:
        print_json({"sweep": sweep.root.name, "asked": count})
    else:
        make_console().print(
            f"{count} trials of {sweep.root.name} save and end at their next step; none follows",
            highlight=False,
        )
    return 0
