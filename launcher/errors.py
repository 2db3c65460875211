"""Problems that a person can fix, collected rather than raised one by one."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.problems import MEANINGS
from train.failures import ExitCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem that was found before anything was started."""

    code: str
    """Stable, for scripts; launcher/problems.py has all of them."""
    field: str
    """Dotted config key, or the verb's argument."""
    message: str
    """What was found and what is allowed."""
    fix: str
    """What to do."""

    def __post_init__(self) -> None:
        if self.code not in MEANINGS:
            raise ValueError(f"unknown problem code {self.code!r}: add it to launcher/problems.py")


class Refused(Exception):  # noqa: N818 - a decision, not an accident
    """All problems that were found; nothing was created."""

    def __init__(self, problems: Iterable[Problem], exit_code: ExitCode = ExitCode.USER_ERROR) -> None:
        self.problems = list(problems)
        self.exit_code = exit_code
        super().__init__("; ".join(problem.message for problem in self.problems))


def refuse(
    code: str, field: str, message: str, fix: str, exit_code: ExitCode = ExitCode.USER_ERROR
) -> Refused:
    """A refusal with a single problem, to be raised."""
    return Refused([Problem(code=code, field=field, message=message, fix=fix)], exit_code)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Suggest the nearest valid name, or list all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"valid here: {', '.join(names)}"
