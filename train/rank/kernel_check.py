"""At the start of every rank: the planned kernels, each compared with its reference before it is trusted."""

import logging

from train.dist import Group
from train.failures import UserError
from train.job import TrainJob
from train.journal.events import KernelsChosen
from train.journal.parts import KernelUse
from train.kernels.check import Heads, mismatches
from train.kernels.table import KernelChoice, config_key, reference_of
from train.model.load import DTYPES


def checked_kernels(job: TrainJob, group: Group, attempt: int, heads: Heads) -> dict[str, KernelChoice]:
    """The planned kernels, once each has agreed with its reference on every rank.

    Args:
        job: What was planned.
        group: All ranks.
        attempt: For the journal.
        heads: The model's attention.

    Raises:
        UserError: one differs or cannot be checked, and the config does not allow to fall back.
    """
    choices = dict(job.plan.kernels)
    found = mismatches(choices, group.env.device, DTYPES[job.config.train.precision], heads)
    apart = {kernel: text for part in group.gather(found) for kernel, text in part.items()}
    if apart and job.config.kernels.on_mismatch == "refuse":
        told = "; ".join(
            f"{config_key(kernel)}={choices[kernel].name}: {text} (set it to {reference_of(kernel)})"
            for kernel, text in apart.items()
        )
        raise UserError(f"{told}; or set kernels.on_mismatch=fall_back")
    for kernel, text in apart.items():
        choices[kernel] = KernelChoice(
            name=reference_of(kernel), why=f"{choices[kernel].name} failed its check: {text}"
        )
    if group.env.is_main:
        for kernel, choice in choices.items():
            logging.getLogger(__name__).info("kernel %s: %s (%s)", kernel, choice.name, choice.why)
        engaged = {
            kernel: KernelUse(name=choice.name, reason=choice.why) for kernel, choice in choices.items()
        }
        job.run_dir.log(KernelsChosen(attempt=attempt, engaged=engaged))
    return choices
