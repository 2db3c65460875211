"""Check a config against all rules, always every one, so that all problems are reported at once."""

from collections.abc import Callable, Iterator, Sequence

from launcher.compose.run import Composed
from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts, Observer
from launcher.planning.plan import RunPlan, make_plan
from launcher.planning.rules.data import packs_exactly, splits_text_only
from launcher.planning.rules.fold import folds_agree
from launcher.planning.rules.kernel import compiles, engages
from launcher.planning.rules.run import (
    chat_template_exists,
    format_serves_task,
    has_an_end,
    has_two_labels,
    patience_has_validations,
    profile_steps_fit,
    resources_fit,
    runs_dir_is_writable,
    sequence_fits_positions,
    warm_up_fits,
    zero_and_precision_agree,
)
from launcher.planning.rules.slurm import asks_the_queue, goes_to_slurm, stays_local
from train.failures import ExitCode

_RESOURCE_CODES = ("memory.", "disk.", "slurm.refused")


def examine(composed: Composed) -> tuple[RunPlan | None, list[Problem]]:
    """Plan a config and find all problems.

    Returns:
        The plan (None if the global batch cannot be divided), and all problems.
    """
    plan, problems = examine_config(composed.config, *Observer().gather(composed.config))
    if plan and not problems:
        problems += asks_the_queue(plan.sbatch)
    return plan, problems


def examine_config(
    config: RunConfig, facts: Facts, found: Sequence[Problem]
) -> tuple[RunPlan | None, list[Problem]]:
    """Plan a config from given facts, like `examine` but without asking Slurm.

    Args:
        config: The config to plan.
        facts: Facts about the machine, the data and the model.
        found: Problems that were found while the facts were gathered.

    Returns:
        The plan (None if the global batch cannot be divided), and all problems.
    """
    problems = list(found)
    for rule in _CONFIG_RULES:
        problems += rule(config, facts)
    try:
        plan = make_plan(config, facts)
    except ValueError as error:
        problems.append(
            Problem(
                code="batch.divide",
                field="train.global_batch_size",
                message=str(error),
                fix="set train.global_batch_size to one of these sizes",
            )
        )
        return None, problems
    return plan, [
        *problems,
        *warm_up_fits(config, plan),
        *profile_steps_fit(config, plan),
        *resources_fit(config, plan),
    ]


def exit_code_for(problems: list[Problem]) -> ExitCode:
    """Return 3 if only resources are missing or too small, or 2 if the config is invalid."""
    only_resources = all(problem.code.startswith(_RESOURCE_CODES) for problem in problems)
    return ExitCode.REFUSED if only_resources else ExitCode.USER_ERROR


_CONFIG_RULES: tuple[Callable[[RunConfig, Facts], Iterator[Problem]], ...] = (
    has_an_end,
    format_serves_task,
    patience_has_validations,
    chat_template_exists,
    has_two_labels,
    folds_agree,
    runs_dir_is_writable,
    zero_and_precision_agree,
    stays_local,
    goes_to_slurm,
    engages,
    compiles,
    sequence_fits_positions,
    packs_exactly,
    splits_text_only,
)
