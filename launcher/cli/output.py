"""How verbs print: a console for people, JSON and plain text for programs."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.errors import Problem

Made = TypeVar("Made")


def make_console() -> "Console":
    """A console for stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe or a log has no width; this one is wide enough for tables without folded lines.
    return console if console.is_terminal else Console(highlight=False, width=120)


def print_json(value: Any) -> None:
    """Print dataclasses, pydantic models and plain values as JSON."""
    from pydantic_core import to_json

    print(to_json(value, indent=2).decode())


def print_line(line: str, file: TextIO | None = None) -> None:
    """Print a line and flush it, so that a reader sees it at once."""
    print(line, file=file or sys.stdout, flush=True)


def print_text(text: str) -> None:
    """Print text that ends with its own newline."""
    print(text, end="")


def print_plan(
    options: argparse.Namespace,
    made: Made | None,
    problems: "list[Problem]",
    as_json: Callable[[Made], dict[str, Any]],
    show: "Callable[[Console, Made, bool], None]",
) -> int:
    """Print the plan of a run or a sweep with all problems.

    Raises:
        Refused: there are problems, and JSON was not requested.
    """
    from launcher.errors import Refused
    from launcher.planning.preflight import exit_code_for

    if options.json:
        print_json({"ok": not problems, "problems": problems, **(as_json(made) if made else {})})
        return int(exit_code_for(problems)) if problems else 0
    if made:
        show(make_console(), made, options.verbose)
    if problems:
        raise Refused(problems, exit_code_for(problems))
    return 0
