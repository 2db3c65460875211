"""The command line: which verbs there are and what they take. What they do is in run_verbs.py.

Imports wait until a verb needs them, so that `--help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from launcher import __version__
from launcher.cli import checkpoint_verbs, machine_verbs, report_verbs, run_verbs, sweep_verbs
from launcher.shadow import shadowing_file

_EPILOG = """\
exit codes: 0 done, 2 user error, 3 refused by plan, 4 run failed, 75 preempted, 93 no progress,
94 no usable checkpoint, 95 nothing can be saved. Start with: shardline submit experiment=smoke --follow"""

Verb = Callable[[argparse.Namespace], int]
Subparsers = Any
"""argparse names the type of `add_subparsers` only privately."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the `shardline` command."""
    options = _parser().parse_args(arguments)
    # What is written is this user's alone, until a run says that it belongs to a group.
    os.umask(0o077)
    if wrong := shadowing_file():
        print(wrong, file=sys.stderr)
        sys.exit(2)
    try:
        code = options.verb(options)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - refusals are shown, everything else is raised again
        code = run_verbs.refused(error, options)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shardline",
        description="From a config on a login node to a finished, evaluated fine-tune.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shardline {__version__}")
    subparsers = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_composing_verbs(subparsers)
    _add_run_verbs(subparsers)
    _add_machine_verbs(subparsers)
    return parser


def _add(subparsers: Subparsers, function: Verb) -> argparse.ArgumentParser:
    """A verb: a function whose name it has and whose docstring is its help."""
    text = function.__doc__ or ""
    summary = text[0].lower() + text[1:].rstrip(".")
    verb: argparse.ArgumentParser = subparsers.add_parser(function.__name__, help=summary, description=text)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(verb=function)
    return verb


def _add_composing_verbs(subparsers: Subparsers) -> None:
    plan, submit = _add(subparsers, run_verbs.plan), _add(subparsers, run_verbs.submit)
    for verb in (plan, submit):
        _add_overrides(verb)
        verb.add_argument(
            "-m",
            "--multirun",
            action="store_true",
            help="a sweep: keys may have several values (a,b or range(0,3))",
        )
    again = submit.add_mutually_exclusive_group()
    again.add_argument(
        "--failed", action="store_true", help="of a sweep, only trials that failed or were killed"
    )
    again.add_argument(
        "--all", action="store_true", help="of a sweep, every trial anew; the old ones are set aside"
    )
    _add_follow(submit)
    submit.add_argument("--dry-run", action="store_true", help="stop before anything is created")


def _add_overrides(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="group=option or dotted.key=value")
    verb.add_argument(
        "--conf",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="a folder of your own groups, searched first",
    )


def _add_run_verbs(subparsers: Subparsers) -> None:
    status = _add(subparsers, run_verbs.status)
    _add_run(status, nargs="*")
    status.add_argument("--all", action="store_true", help="every run, not only the newest and what is alive")
    status.add_argument("--watch", action="store_true", help="again every five seconds, until all have ended")
    logs = _add(subparsers, run_verbs.logs)
    _add_run(logs)
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    logs.add_argument("--grep", metavar="PATTERN", help="only lines that match a regular expression")
    logs.add_argument("--rank", type=int, help="one rank only")
    logs.add_argument("--attempt", type=int, help="one attempt (default: the last)")
    results = _add(subparsers, run_verbs.results)
    _add_run(results)
    results.add_argument("--metric", help="of a sweep: what ranks the settings (loss, macro_f1, ...)")
    results.add_argument("--sort", metavar="KEY", help="of a sweep: order the rows by a swept key")
    form = results.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="of a sweep: for spreadsheets")
    form.add_argument("--markdown", action="store_true", help="of a sweep: for a note")
    results.add_argument("--wandb", action="store_true", help="of a sweep: send the table to W&B too")
    refine = _add(subparsers, sweep_verbs.refine)
    refine.add_argument("sweep", metavar="SWEEP", help="name, start of a name, or directory")
    refine.add_argument("--metric", help="what ranks the settings")
    report = _add(subparsers, report_verbs.report)
    _add_run(report)
    report.add_argument(
        "--out", type=Path, metavar="FILE", help="(default: report.html in the run or sweep directory)"
    )
    report.add_argument("--metric", metavar="M", help="what a sweep is ranked by (default: as results does)")
    resume = _add(subparsers, run_verbs.resume)
    _add_run(resume)
    _add_overrides(resume)
    resume.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="KEY",
        help="change a key that what was trained so far depends on; the journal keeps it",
    )
    _add_follow(resume)
    checkpoints = _add(subparsers, checkpoint_verbs.checkpoints)
    _add_run(checkpoints)
    checkpoints.add_argument("--verify", action="store_true", help="read every byte")
    export = _add(subparsers, checkpoint_verbs.export)
    _add_run(export)
    export.add_argument("--step", type=int, help="which checkpoint (default: the newest usable one)")
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder (default: in the run directory)"
    )
    rehearse = _add(subparsers, checkpoint_verbs.rehearse)
    _add_overrides(rehearse)
    rehearse.add_argument("--steps", type=int, default=12, help="of each of the two trainings (default: 12)")
    rehearse.add_argument(
        "--within-min",
        type=float,
        default=120.0,
        metavar="MINUTES",
        help="give up after so long, queue included",
    )
    _add_run(_add(subparsers, run_verbs.stop))
    _add_run(_add(subparsers, run_verbs.cancel))


def _add_machine_verbs(subparsers: Subparsers) -> None:
    doctor = _add(subparsers, machine_verbs.doctor)
    doctor.add_argument("--job", action="store_true", help="submit a one-minute job that looks at a node")
    doctor.add_argument(
        "--build-ops",
        action="store_true",
        help="compile the C++ kernels of DeepSpeed that runs here may name",
    )
    _add_overrides(doctor)
    devcluster = _add(subparsers, machine_verbs.devcluster)
    devcluster.add_argument("action", choices=("up", "down", "status"))
    devcluster.add_argument("--dir", type=Path, default=Path(".devcluster"), help="where all of it lives")
    devcluster.add_argument("--nodes", type=int, default=4, choices=range(1, 17), metavar="N")
    devcluster.add_argument("--no-accounting", action="store_true", help="without database and sacct")


def _add_run(verb: argparse.ArgumentParser, nargs: str | None = None) -> None:
    verb.add_argument(
        "run",
        nargs=nargs,
        metavar="RUN",
        help="name, start of a name, or directory (a run, a trial or a sweep)",
    )


def _add_follow(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--follow", action="store_true", help="watch until the run ends; Ctrl-C leaves it running"
    )
