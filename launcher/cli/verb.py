"""What describes a verb to the parser and to `--help`, and the options that several verbs share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from launcher.cli.completers import Completer, complete_overrides, complete_runs


def _no_options(_parser: argparse.ArgumentParser) -> None:
    """A verb without options of its own."""


class Verb(NamedTuple):
    """One row in the table of verbs; a named tuple, since importing dataclasses would slow down --help."""

    name: str
    help: str
    """One line that starts with an imperative."""
    example: str
    """A complete command line, shown under the verb's own --help."""
    run: Callable[[argparse.Namespace], int]
    """Takes the parsed options and returns the exit code."""
    options: Callable[[argparse.ArgumentParser], None] = _no_options
    """Adds the verb's arguments to its parser; every verb has --json besides."""
    creates_runs: bool = False
    """Whether the message of a refusal says that no run was created."""


def completed_by(action: argparse.Action, completer: Completer) -> None:
    """Set what the shell suggests for an argument; argcomplete reads the attribute `completer`."""
    action.completer = completer  # type: ignore[attr-defined]


def add_run(
    parser: argparse.ArgumentParser, nargs: str | None = None, completer: Completer = complete_runs
) -> None:
    """Add the argument that names a run, a trial or a sweep."""
    action = parser.add_argument(
        "run",
        nargs=nargs,
        metavar="RUN",
        help="a run, a trial or a sweep: its name, the start of its name, or its directory",
    )
    completed_by(action, completer)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verbs that compose a config."""
    action = parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="group=option or dotted.key=value"
    )
    completed_by(action, complete_overrides)
    parser.add_argument(
        "--conf",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="folder with your own config groups, searched first",
    )


def add_multirun(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verbs that plan a run or a sweep."""
    add_overrides(parser)
    parser.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="make a sweep: a key may have several values (a,b or range(0,3))",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show also DeepSpeed's configuration, the sbatch script, and why kernels were rejected",
    )


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Add --follow."""
    parser.add_argument(
        "--follow", action="store_true", help="watch until the run ends; Ctrl-C leaves it running"
    )
