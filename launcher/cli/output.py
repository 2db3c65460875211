"""How verbs speak: a console for people, JSON for programs."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.errors import Problem

Made = TypeVar("Made")


def make_console() -> "Console":
    """A console that does not fold tables when nobody looks at a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe or a log has no width of its own: tables need one that does not fold them.
    return console if console.is_terminal else Console(highlight=False, width=120)


def print_json(value: Any) -> None:
    """Dataclasses, pydantic models and plain values, for programs."""
    from pydantic_core import to_json

    print(to_json(value, indent=2).decode())


def tell_plan(
    options: argparse.Namespace,
    made: Made | None,
    problems: "list[Problem]",
    as_json: Callable[[Made], dict[str, Any]],
    show: "Callable[[Console, Made], None]",
) -> int:
    """Show what was planned, of a run or of a sweep, and everything that stands in its way."""
    from launcher.errors import Refused
    from launcher.planning.preflight import exit_code_for

    if options.json:
        print_json({"ok": not problems, "problems": problems, **(as_json(made) if made else {})})
        return int(exit_code_for(problems)) if problems else 0
    if made:
        show(make_console(), made)
    if problems:
        raise Refused(problems, exit_code_for(problems))
    return 0
