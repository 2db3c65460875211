"""At the start of every rank: the planned kernels, each compared with its reference before it is trusted."""

import logging

from train.dist import Group
from train.failures import UserError
from train.job import TrainJob
from train.kernels.check import mismatches
from train.kernels.table import REFERENCE, KernelChoice
from train.model import DTYPES


def checked_kernels(job: TrainJob, group: Group, attempt: int) -> dict[str, KernelChoice]:
    """The planned kernels, once each has agreed with its reference on every rank.

    Raises:
        UserError: one differs, and the config does not allow to fall back.
    """
    choices = dict(job.plan.kernels)
    found = mismatches(choices, group.env.device, DTYPES[job.config.train.precision])
    apart = {kernel: text for part in group.gather(found) for kernel, text in part.items()}
    if apart and job.config.kernels.on_mismatch == "refuse":
        told = "; ".join(f"kernels.{kernel}={choices[kernel].name}: {text}" for kernel, text in apart.items())
        raise UserError(f"{told}; set it to torch, or kernels.on_mismatch=fall_back")
    for kernel, text in apart.items():
        choices[kernel] = KernelChoice(name=REFERENCE, why=f"{choices[kernel].name} differs: {text}")
    if group.env.is_main:
        for kernel, choice in choices.items():
            logging.getLogger(__name__).info("kernel %s: %s (%s)", kernel, choice.name, choice.why)
        engaged = {kernel: choice.model_dump() for kernel, choice in choices.items()}
        job.run_dir.log_event("kernels", attempt=attempt, engaged=engaged)
    return choices
