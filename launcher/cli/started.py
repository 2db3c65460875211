"""What follows a submit or a resume: print what was started, and with --follow watch it to its end."""

import argparse
from typing import TYPE_CHECKING

from launcher.cli.output import make_console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.lifecycle.submit import SubmitResult
    from launcher.records.sweeps import SweepDir
    from launcher.status.runs import RunStatus
    from launcher.sweep.start import SweepSubmission
    from train.rundir import RunDir


def run_started(options: argparse.Namespace, submission: "SubmitResult") -> int:
    """Print what was started, or that the run was finished before; returns the exit code."""
    from launcher.cli.show.next import show_next_commands
    from launcher.cli.show.result import show_result
    from launcher.records.jobs import run_executor
    from train.result import require_finished

    run, job_id = submission.run, submission.job_id
    if options.json:
        code = _follow_quietly(run) if options.follow and job_id else 0
        print_json({"run": run.root.name, "dir": str(run.root), "job_id": job_id})
        return code
    console = make_console()
    if job_id is None:
        console.print(f"[bold]{run.root.name}[/] is already finished: the same config was trained before.\n")
        show_result(console, require_finished(run))
        show_next_commands(console, run)
        return 0
    for change in submission.changes:
        if change.kind != "free":
            console.print(f"changed {change.text}", markup=False, highlight=False, soft_wrap=True)
    where = "started as local job" if run_executor(run) == "local" else "submitted to Slurm as job"
    console.print(f"[bold]{run.root.name}[/] {where} {job_id}")
    if not options.follow:
        show_next_commands(console, run)
        return 0
    return _follow_run(console, run)


def _follow_run(console: "Console", run: "RunDir") -> int:
    """Watch a run and show its result; Ctrl-C ends the watching only."""
    from rich.markup import escape

    from launcher.cli.follow import watch
    from launcher.cli.show.next import show_next_commands
    from launcher.cli.show.result import show_result
    from launcher.records.runs import name_to_type
    from train.result import require_finished

    try:
        status = watch(run, console)
    except KeyboardInterrupt:
        console.print(f"\nthe run continues; to watch it again: shardline logs -f {name_to_type(run)}")
        return 130
    if status.state == "COMPLETED":
        console.print()
        show_result(console, require_finished(run))
        show_next_commands(console, run)
    else:
        console.print(f"\n[bold red]{status.state}[/] {escape(status.why)}", soft_wrap=True)
        console.print(f"  shardline logs {name_to_type(run)}\n  shardline resume {name_to_type(run)}")
    return _exit_code_of(run, status.state)


def _follow_quietly(run: "RunDir") -> int:
    """Wait until a run ends without printing anything; returns its exit code."""
    import io

    from rich.console import Console

    from launcher.cli.follow import watch

    return _exit_code_of(run, watch(run, Console(file=io.StringIO())).state)


def _exit_code_of(run: "RunDir", state: str) -> int:
    """The exit code of an ended run."""
    from train.failures import ExitCode
    from train.result import read_result

    if state == "COMPLETED":
        return int(ExitCode.DONE)
    if state == "PREEMPTED":
        return int(ExitCode.PREEMPTED)
    result = read_result(run)
    return int(result.exit_code if result else ExitCode.RUN_FAILED)


def sweep_started(options: argparse.Namespace, done: "SweepSubmission") -> int:
    """Print how many trials were started, and with --follow watch them; returns the exit code."""
    from launcher.cli.show.sweep import show_submission, submission_as_json
    from train.failures import ExitCode

    console = make_console()
    if not options.json:
        show_submission(console, done)
    code = int(ExitCode.REFUSED) if done.refused else 0
    if options.follow and not done.refused:
        code = _follow_sweep(options, done.sweep)
    if options.json:
        print_json(submission_as_json(done))
    return code


def _follow_sweep(options: argparse.Namespace, sweep: "SweepDir") -> int:
    """Watch until every trial has ended; 0 if all are finished or stopped by halving."""
    from launcher.cli.follow import repeat
    from launcher.cli.show.sweep import progress_line, show_board
    from launcher.records.runs import name_to_type
    from launcher.status.queue import RecentView
    from launcher.status.state import ALIVE
    from launcher.status.trials import read_sweep
    from launcher.sweep.board import read_board
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

    console = make_console()
    try:
        repeat(console, show, every_s=1.0, clear=False)
    except KeyboardInterrupt:
        console.print(f"\nthe sweep continues; to check it: shardline status {name_to_type(sweep)}")
        return 130
    if not options.json:
        console.print()
        show_board(console, sweep, read_board(sweep, None, None))
    failed = [status for status in statuses if status.state in ("FAILED", "CANCELLED")]
    return int(ExitCode.RUN_FAILED) if failed else 0
