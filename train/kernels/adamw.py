"""Implementations of AdamW: torch's loop, torch's fused kernel, and DeepSpeed's for GPU and host."""

from typing import Any

import torch

from train.kernels.build import load
from train.kernels.table import REFERENCE

_HYPERPARAMETERS = ("lr", "betas", "eps", "weight_decay")


def make_adamw(
    kernel: str, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """Return an AdamW optimizer by its name in the kernel table.

    Args:
        kernel: `torch`, `fused`, `fused_adam` or `cpu_adam`.
        groups: Parameters and their weight decay.
        lr: Learning rate.
        betas: Decay rates of the two moments.
        eps: Term added to the square root of the second moment.

    Raises:
        UserError: The kernel is DeepSpeed's and has not been built.
    """
    if kernel in (REFERENCE, "fused"):
        return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=kernel == "fused")
    load(kernel)
    return (_cpu_adam if kernel == "cpu_adam" else _fused_adam)(groups, lr=lr, betas=betas, eps=eps)


def _fused_adam(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import FusedAdam

    optimizer: torch.optim.Optimizer = FusedAdam(groups, **settings, adam_w_mode=True)
    return optimizer


def _cpu_adam(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    """Return DeepSpeed's CPU Adam with steps that depend only on the step number, so that a resume is exact.

    Its C++ object updates the powers of the betas by multiplication from step to step, which rounds
    differently from the power that it computes after a jump of the step count. A new C++ object for each
    step always computes the power.
    """
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    optimizer: Any = DeepSpeedCPUAdam(groups, **settings, adamw_mode=True)
    created_with = (settings["lr"], *settings["betas"], settings["eps"], 0.0, True, False)

    def forget(*_: Any) -> None:
        optimizer.ds_opt_adam.create_adam(optimizer.opt_id, *created_with)

    optimizer.register_step_pre_hook(forget)
    made: torch.optim.Optimizer = optimizer
    return made


def adopt_states(optimizer: torch.optim.Optimizer) -> None:
    """Convert loaded states to the format of this optimizer, whichever AdamW saved them.

    The moments have the same format. Torch counts steps in a tensor on the weights' device, DeepSpeed in an
    int. Entries of a group other than hyperparameters are reset to this optimizer's defaults.
    """
    for group in optimizer.param_groups:
        group |= {key: value for key, value in optimizer.defaults.items() if key not in _HYPERPARAMETERS}
    counts_in_tensors = isinstance(optimizer, torch.optim.AdamW)
    for weight, state in optimizer.state.items():
        if "step" not in state:
            # A weight that never had a gradient has no state.
            continue
        count = float(state["step"])
        state["step"] = (
            torch.tensor(count, dtype=torch.float32, device=weight.device)
            if counts_in_tensors
            else int(count)
        )
