"""The command: verbs for people, `--json` for programs, exit codes for both.

Imports wait until a verb needs them, so that `--help` answers at once.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import __version__
from launcher.shadow import shadowing_file

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.submit import Submission
    from train.rundir import RunDir

_EPILOG = """\
exit codes: 0 done, 2 user error, 3 refused by plan, 4 run failed, 75 preempted, 93 no progress,
94 no usable checkpoint. Start with: shardline submit experiment=smoke --follow"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the `shardline` command."""
    options = _parser().parse_args(arguments)
    if wrong := shadowing_file():
        sys.exit(_said(wrong))
    try:
        code = options.verb(options)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - refusals are shown, everything else is raised again
        code = _refused(error, options)
    sys.exit(code)


def _said(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shardline",
        description="From a config on a login node to a finished, evaluated fine-tune.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shardline {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_composing_verbs(verbs)
    _add_run_verbs(verbs)
    return parser


def _add_composing_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, function, text in (
        ("plan", _plan, "compose a config, check everything, show what would run; create nothing"),
        ("submit", _submit, "plan, freeze and start a run; returns at once"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument(
            "overrides", nargs="*", metavar="KEY=VALUE", help="group=option or dotted.key=value"
        )
        verb.add_argument(
            "--conf",
            action="append",
            type=Path,
            default=[],
            metavar="DIR",
            help="a folder of your own groups, searched first",
        )
        verb.add_argument("--json", action="store_true", help="for programs")
        verb.set_defaults(verb=function)
        if name == "submit":
            verb.add_argument(
                "--follow", action="store_true", help="watch until the run ends; Ctrl-C leaves it running"
            )
            verb.add_argument("--dry-run", action="store_true", help="stop before anything is created")


def _add_run_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    def add(name: str, function: Any, text: str, run: str | None) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text)
        if run:
            verb.add_argument("run", nargs=run, metavar="RUN", help="name, start of a name, or directory")
        verb.add_argument("--json", action="store_true", help="for programs")
        verb.set_defaults(verb=function)
        return verb

    add("status", _status, "state, step and attempts of runs (default: all)", "*")
    logs = add("logs", _logs, "what the ranks printed", None)
    logs.add_argument("run", metavar="RUN", help="name, start of a name, or directory")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    logs.add_argument("--rank", type=int, help="one rank only")
    logs.add_argument("--attempt", type=int, help="one attempt (default: the last)")
    for name, function, text in (
        ("results", _results, "base against tuned of a finished run"),
        ("resume", _resume, "go on with a stopped or failed run from its newest verified checkpoint"),
        ("cancel", _cancel, "kill a run; what was saved stays"),
    ):
        verb = add(name, function, text, None)
        verb.add_argument("run", metavar="RUN", help="name, start of a name, or directory")
        if name == "resume":
            verb.add_argument("--follow", action="store_true", help="watch until the run ends")


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe or a log has no width of its own: tables need one that does not fold them.
    return console if console.is_terminal else Console(highlight=False, width=120)


def _print_json(value: Any) -> None:
    from pydantic_core import to_json

    print(to_json(value, indent=2).decode())


def _refused(error: Exception, options: argparse.Namespace) -> int:
    from launcher.errors import Refused

    if not isinstance(error, Refused):
        raise error
    if options.json:
        _print_json({"ok": False, "problems": error.problems})
    else:
        from rich.console import Console

        from launcher.show import show_problems

        composing = hasattr(options, "overrides")
        show_problems(Console(stderr=True, highlight=False), error.problems, before_a_run=composing)
    return int(error.exit_code)


def _plan(options: argparse.Namespace) -> int:
    from launcher.compose import compose_run
    from launcher.errors import Refused
    from launcher.preflight import examine, exit_code_for
    from launcher.show import show_plan

    composed = compose_run(options.overrides, options.conf)
    plan, problems = examine(composed)
    if options.json:
        known = (
            {
                "run": plan.run,
                "batch": plan.training.batch,
                "memory": plan.memory,
                "time": plan.time,
                "disk": plan.disk,
                "sbatch": plan.sbatch,
                "deepspeed": plan.deepspeed,
            }
            if plan
            else {}
        )
        _print_json({"ok": not problems, "problems": problems, **known})
        return int(exit_code_for(problems)) if problems else 0
    if plan:
        show_plan(_console(), plan)
    if problems:
        raise Refused(problems, exit_code_for(problems))
    return 0


def _submit(options: argparse.Namespace) -> int:
    if options.dry_run:
        return _plan(options)
    from launcher.compose import compose_run
    from launcher.submit import submit_run

    return _after_start(options, submit_run(compose_run(options.overrides, options.conf)))


def _resume(options: argparse.Namespace) -> int:
    from launcher.runs import find_run
    from launcher.submit import resume_run

    return _after_start(options, resume_run(find_run(options.run)))


def _after_start(options: argparse.Namespace, submission: "Submission") -> int:
    """Say what was started; with --follow, stay until it ends."""
    from launcher.show import show_next_commands, show_result

    run, job_id = submission.run, submission.job_id
    if options.json:
        code = _follow_quietly(run) if options.follow and job_id else 0
        _print_json({"run": run.root.name, "dir": str(run.root), "job_id": job_id})
        return code
    console = _console()
    if job_id is None:
        console.print(f"[bold]{run.root.name}[/] is finished: the same config was trained here before.\n")
        show_result(console, run)
        show_next_commands(console, run)
        return 0
    console.print(f"[bold]{run.root.name}[/] started as local job {job_id}")
    if not options.follow:
        show_next_commands(console, run)
        return 0
    return _follow(console, run)


def _follow(console: "Console", run: "RunDir") -> int:
    from launcher.follow import watch
    from launcher.show import show_next_commands, show_result

    try:
        status = watch(run, console)
    except KeyboardInterrupt:
        console.print(f"\nthe run goes on; watch it again with: shardline logs -f {run.root.name}")
        return 0
    if status.state == "COMPLETED":
        console.print()
        show_result(console, run)
        show_next_commands(console, run)
    else:
        console.print(f"\n[bold red]{status.state}[/] {status.why}", soft_wrap=True)
        console.print(f"  shardline logs {run.root.name}\n  shardline resume {run.root.name}")
    return _exit_code_of(run.result, status.state)


def _follow_quietly(run: "RunDir") -> int:
    import io

    from rich.console import Console

    from launcher.follow import watch

    return _exit_code_of(run.result, watch(run, Console(file=io.StringIO())).state)


def _exit_code_of(result: Path, state: str) -> int:
    from train.failures import ExitCode

    if state == "COMPLETED":
        return int(ExitCode.DONE)
    if state == "PREEMPTED":
        return int(ExitCode.PREEMPTED)
    if result.exists():
        return int(json.loads(result.read_text()).get("exit_code", ExitCode.RUN_FAILED))
    return int(ExitCode.RUN_FAILED)


def _status(options: argparse.Namespace) -> int:
    from launcher.runs import all_runs, find_run, runs_root
    from launcher.show import show_status
    from launcher.status import read_status

    runs = [find_run(name) for name in options.run] or all_runs(runs_root())
    statuses = [read_status(run) for run in runs]
    if options.json:
        _print_json(statuses)
    else:
        show_status(_console(), statuses)
    return 0


def _logs(options: argparse.Namespace) -> int:
    from launcher.logs import follow, log_files
    from launcher.runs import find_run
    from launcher.status import read_status

    run = find_run(options.run)

    def alive() -> bool:
        return options.follow and read_status(run).state in ("RUNNING", "PENDING")

    log_files(run, options.attempt, options.rank)
    for label, line in follow(lambda: log_files(run, options.attempt, options.rank), alive):
        print(
            json.dumps({"source": label, "line": line}) if options.json else f"[{label}] {line}", flush=True
        )
    return 0


def _results(options: argparse.Namespace) -> int:
    from launcher.errors import refuse
    from launcher.runs import find_run
    from launcher.show import show_next_commands, show_result
    from launcher.status import read_status

    run = find_run(options.run)
    status = read_status(run)
    if status.state != "COMPLETED":
        raise refuse(
            "run.unfinished",
            "RUN",
            f"{status.run} is {status.state.lower()}: {status.why}",
            "shardline status",
        )
    if options.json:
        _print_json(json.loads(run.result.read_text()))
    else:
        show_result(_console(), run)
        show_next_commands(_console(), run)
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from launcher.cancel import cancel_run
    from launcher.runs import find_run

    run = find_run(options.run)
    cancelled = cancel_run(run)
    if options.json:
        _print_json({"run": run.root.name, "cancelled": cancelled})
    else:
        _console().print(f"{run.root.name} {'was cancelled' if cancelled else 'was not running'}")
    return 0


if __name__ == "__main__":
    main()
