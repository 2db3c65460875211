"""Whether options ask for a sweep, and the plan of it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.errors import Problem
    from launcher.sweep.plan import SweepPlan


def is_sweep(options: argparse.Namespace) -> bool:
    """Whether several trials are requested: by -m, or by cv.folds without cv.fold."""
    keys = {text.partition("=")[0].lstrip("+") for text in options.overrides}
    return bool(options.multirun or ("cv.folds" in keys and "cv.fold" not in keys))


def planned_sweep(options: argparse.Namespace) -> "tuple[SweepPlan | None, list[Problem]]":
    """Plan a sweep; the queue is asked only if nothing else is wrong."""
    from launcher.compose.sweep import compose_sweep
    from launcher.sweep.plan import plan_sweep
    from launcher.sweep.submit_arrays import ask_the_queue

    made, problems = plan_sweep(compose_sweep(options.overrides, options.conf))
    if made and not problems:
        problems = list(ask_the_queue(made))
    return made, problems


def refuse_sweep_options(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse options that a single run does not have.

    Raises:
        Refused: one of them was given.
    """
    from launcher.errors import refuse

    for name in names:
        if getattr(options, name):
            raise refuse(
                f"verb.{name}",
                f"--{name}",
                f"--{name} has no effect on a single run",
                f"leave out --{name}, or use -m to make a sweep",
            )
