"""Run directories for benchmarks, composed, planned and frozen as by `submit`, without starting a job."""

from collections.abc import Sequence
from pathlib import Path

from launcher.compose.run import compose_run
from launcher.errors import Refused
from launcher.lifecycle.submit import create_run
from launcher.planning.preflight import examine
from train.rundir import RunDir


def freeze_run(overrides: Sequence[str]) -> RunDir:
    """Create the run directory of a config.

    Raises:
        Refused: The plan has problems.
    """
    composed = compose_run(overrides)
    plan, problems = examine(composed)
    if problems or plan is None:
        raise Refused(problems)
    run = RunDir(Path(composed.config.runs_dir) / plan.run)
    create_run(run, composed, plan)
    return run
