"""How problems look to a person."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from launcher.errors import Problem


def show_problems(console: Console, problems: Sequence[Problem], *, nothing_created: bool) -> None:
    """Print all problems, each with its fix."""
    noun = "problem" if len(problems) == 1 else "problems"
    tail = ", nothing was created" if nothing_created else ""
    console.print(f"{len(problems)} {noun}{tail}:", style="bold red")
    for problem in problems:
        console.print(
            f"  [bold]{escape(problem.field)}[/]: {escape(problem.message)}", soft_wrap=True, highlight=False
        )
        console.print(
            f"    -> {escape(problem.fix)}  [dim]({problem.code})[/]", soft_wrap=True, highlight=False
        )
