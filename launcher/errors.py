"""Problems that the user can fix. They are collected, so that all of them are reported at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.problems import MEANINGS
from train.failures import ExitCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem that prevents a command."""

    code: str
    """Stable code for scripts; launcher/problems.py lists all codes."""
    field: str
    """Dotted config key, or argument of the command."""
    message: str
    """The value found, and what is allowed."""
    fix: str
    """How to fix it, as an imperative."""

    def __post_init__(self) -> None:
        if self.code not in MEANINGS:
            raise ValueError(f"unknown problem code {self.code!r}: add it to launcher/problems.py")


class Refused(Exception):  # noqa: N818 - the refusal is intended, not an error of the program
    """Raised with all problems that were found, before anything is created."""

    def __init__(self, problems: Iterable[Problem], exit_code: ExitCode = ExitCode.USER_ERROR) -> None:
        self.problems = list(problems)
        self.exit_code = exit_code
        super().__init__("; ".join(problem.message for problem in self.problems))


def refuse(
    code: str, field: str, message: str, fix: str, exit_code: ExitCode = ExitCode.USER_ERROR
) -> Refused:
    """Make a refusal with a single problem, to be raised.

    Args:
        code: Code of the problem.
        field: Dotted config key, or argument of the command.
        message: The value found, and what is allowed.
        fix: How to fix it, as an imperative.
        exit_code: Exit code of the command.
    """
    return Refused([Problem(code=code, field=field, message=message, fix=fix)], exit_code)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Suggest the nearest valid name, or list all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"valid here: {', '.join(names)}"
