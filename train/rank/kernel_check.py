"""Checks each planned kernel against its reference at the start of every rank."""

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
    """Return the kernels to use, after comparing each planned kernel with its reference on every rank.

    Args:
        job: The planned run.
        group: All ranks.
        attempt: The attempt that the journal entry belongs to.
        heads: The attention heads of the model.

    Raises:
        UserError: A kernel differs from its reference or its check failed, and kernels.on_mismatch=refuse.
    """
    choices = dict(job.plan.kernels)
    found = mismatches(choices, group.env.device, DTYPES[job.config.train.precision], heads)
    apart = {kernel: text for part in group.gather(found) for kernel, text in part.items()}
    if apart and job.config.kernels.on_mismatch == "refuse":
        problems = "; ".join(
            f"{config_key(kernel)}={choices[kernel].name}: {text} (set it to {reference_of(kernel)})"
            for kernel, text in apart.items()
        )
        raise UserError(f"{problems}; or set kernels.on_mismatch=fall_back")
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
