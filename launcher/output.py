"""How verbs speak: a console for people, JSON for programs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


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
