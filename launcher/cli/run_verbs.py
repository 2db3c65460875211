"""What the verbs do: each takes parsed options and returns an exit code.

Imports wait until a verb needs them, so that the login side stays light.
"""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.cli.output import make_console, print_json, tell_plan

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.lifecycle.submit import SubmitResult
    from train.rundir import RunDir


def refused(error: Exception, options: argparse.Namespace) -> int:
    """Show every problem of a refusal; any other exception goes on."""
    from launcher.errors import Refused

    if not isinstance(error, Refused):
        raise error
    if options.json:
        print_json({"ok": False, "problems": error.problems})
    else:
        from rich.console import Console

        from launcher.cli.show_runs import show_problems

        composing = options.verb.__name__ in ("plan", "submit")
        show_problems(Console(stderr=True, highlight=False), error.problems, before_a_run=composing)
    return int(error.exit_code)


def plan(options: argparse.Namespace) -> int:
    """Compose a config, check everything, show what would run; creates nothing."""
    from launcher.cli import sweep_verbs as sweeps
    from launcher.cli.show_plan import plan_as_json, show_plan
    from launcher.compose.run import compose_run
    from launcher.planning.preflight import examine

    if sweeps.is_sweep(options):
        return sweeps.plan(options)
    return tell_plan(options, *examine(compose_run(options.overrides, options.conf)), plan_as_json, show_plan)


def submit(options: argparse.Namespace) -> int:
    """Plan, freeze and start a run, or with -m a sweep; returns at once."""
    from launcher.cli import sweep_verbs as sweeps

    if options.dry_run:
        return plan(options)
    if sweeps.is_sweep(options):
        return sweeps.submit(options)
    _refuse_what_only_sweeps_know(options, ("failed", "all"))
    from launcher.compose.run import compose_run
    from launcher.lifecycle.submit import submit_run

    return _after_start(options, submit_run(compose_run(options.overrides, options.conf)))


def _refuse_what_only_sweeps_know(options: argparse.Namespace, names: Sequence[str]) -> None:
    from launcher.errors import refuse

    for name in names:
        if getattr(options, name):
            raise refuse(
                f"verb.{name}",
                f"--{name}",
                f"--{name} says nothing to a single run",
                "submit -m makes sweeps",
            )


def resume(options: argparse.Namespace) -> int:
    """Go on with a run from its newest verified checkpoint, with other GPUs or settings if asked."""
    from launcher.lifecycle.submit import change_run, recomposed, resume_run
    from launcher.records.runs import find_run

    run = find_run(options.run)
    if not options.overrides:
        return _after_start(options, resume_run(run, allowed=options.allow_change))
    composed, plan = recomposed(run, options.overrides, options.conf)
    return _after_start(options, change_run(run, composed, plan, options.allow_change))


def _after_start(options: argparse.Namespace, submission: "SubmitResult") -> int:
    """Say what was started; with --follow, stay until it ends."""
    from launcher.cli.show_result import show_result
    from launcher.cli.show_runs import show_next_commands
    from launcher.records.jobs import run_executor
    from train.result import require_finished

    run, job_id = submission.run, submission.job_id
    if options.json:
        code = _follow_quietly(run) if options.follow and job_id else 0
        print_json({"run": run.root.name, "dir": str(run.root), "job_id": job_id})
        return code
    console = make_console()
    if job_id is None:
        console.print(f"[bold]{run.root.name}[/] is finished: the same config was trained here before.\n")
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
    return _follow(console, run)


def _follow(console: "Console", run: "RunDir") -> int:
    from rich.markup import escape

    from launcher.cli.follow import watch
    from launcher.cli.show_result import show_result
    from launcher.cli.show_runs import show_next_commands
    from launcher.records.runs import name_to_type
    from train.result import require_finished

    try:
        status = watch(run, console)
    except KeyboardInterrupt:
        console.print(f"\nthe run goes on; watch it again with: shardline logs -f {name_to_type(run)}")
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
    import io

    from rich.console import Console

    from launcher.cli.follow import watch

    return _exit_code_of(run, watch(run, Console(file=io.StringIO())).state)


def _exit_code_of(run: "RunDir", state: str) -> int:
    from train.failures import ExitCode
    from train.result import read_result

    if state == "COMPLETED":
        return int(ExitCode.DONE)
    if state == "PREEMPTED":
        return int(ExitCode.PREEMPTED)
    result = read_result(run)
    return int(result.exit_code if result else ExitCode.RUN_FAILED)


def status(options: argparse.Namespace) -> int:
    """State, step, attempts, nodes and reasons of runs (default: all)."""
    from launcher.cli.show_runs import show_overview
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


def logs(options: argparse.Namespace) -> int:
    """What ranks and nodes wrote, merged by time, the first error first."""
    import re

    from launcher.errors import refuse
    from launcher.records.runs import find_run
    from launcher.status.logs import as_json, attempts_with_logs, first_error, follow, log_files
    from launcher.status.queue import RecentView
    from launcher.status.runs import read_status
    from launcher.status.state import ALIVE

    run = find_run(options.run)
    recent = RecentView()
    try:
        wanted = re.compile(options.grep or "")
    except re.error as error:
        raise refuse("logs.grep", "--grep", f"{options.grep!r} is no pattern: {error}", "mend it") from error

    def alive() -> bool:
        return options.follow and read_status(run, recent.look).state in ALIVE

    while not any(run.attempt_logs(1).glob("rank_*.log")) and alive():
        time.sleep(0.2)
    log_files(run, options.attempt, options.rank)
    attempt = options.attempt or attempts_with_logs(run)[-1]
    if (first := first_error(run, attempt)) and not options.json:
        print(f"{first}\n", flush=True)
    for label, line in follow(lambda: log_files(run, options.attempt, options.rank), alive):
        if wanted.search(line):
            print(as_json(label, line) if options.json else f"[{label}] {line}", flush=True)
    return 0


def results(options: argparse.Namespace) -> int:
    """Base against tuned of a finished run; of a sweep, which setting to take."""
    from launcher.cli import sweep_verbs as sweeps
    from launcher.cli.show_result import show_result
    from launcher.cli.show_runs import show_next_commands
    from launcher.errors import refuse
    from launcher.records.runs import find
    from launcher.records.sweeps import SweepDir
    from launcher.status.runs import read_status
    from train.result import require_finished, result_row

    run = find(options.run)
    if isinstance(run, SweepDir):
        return sweeps.results(options, run)
    _refuse_what_only_sweeps_know(options, ("metric", "sort", "csv", "markdown", "wandb"))
    status = read_status(run)
    if status.state != "COMPLETED":
        raise refuse(
            "run.unfinished",
            "RUN",
            f"{status.run} is {status.state.lower()}: {status.why}",
            "shardline status",
        )
    if options.json:
        print_json(result_row(require_finished(run)))
    else:
        show_result(make_console(), require_finished(run))
        show_next_commands(make_console(), run)
    return 0


def stop(options: argparse.Namespace) -> int:
    """Ask a running run or all of a sweep to save at the next step and end; resume goes on."""
    from launcher.cli import sweep_verbs as sweeps
    from launcher.lifecycle.cancel import stop_run
    from launcher.records.runs import find
    from launcher.records.sweeps import SweepDir

    run = find(options.run)
    if isinstance(run, SweepDir):
        return sweeps.stop(options, run)
    stop_run(run)
    if options.json:
        print_json({"run": run.root.name, "asked": True})
    else:
        make_console().print(
            f"{run.root.name} saves and ends at its next step: shardline status {options.run}"
        )
    return 0


def cancel(options: argparse.Namespace) -> int:
    """Kill a run or all of a sweep; what was saved stays."""
    from launcher.cli import sweep_verbs as sweeps
    from launcher.lifecycle.cancel import cancel_run
    from launcher.records.runs import find
    from launcher.records.sweeps import SweepDir

    run = find(options.run)
    if isinstance(run, SweepDir):
        return sweeps.cancel(options, run)
    cancelled = cancel_run(run)
    if options.json:
        print_json({"run": run.root.name, "cancelled": cancelled})
    else:
        make_console().print(f"{run.root.name} {'was cancelled' if cancelled else 'was not running'}")
    return 0
