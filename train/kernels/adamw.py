"""AdamW by several hands: torch's loop, torch's fused one, and DeepSpeed's for GPU and for host."""

from typing import Any

import torch

from train.kernels.build import load
from train.kernels.table import REFERENCE

_HYPERPARAMETERS = ("lr", "betas", "eps", "weight_decay")


def make_adamw(
    kernel: str, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """The optimizer that the kernel table names.

    Args:
        kernel: `torch`, `fused`, `fused_adam` or `cpu_adam`.
        groups: Parameters and their weight decay.
        lr: Learning rate.
        betas: Decay of the two moments.
        eps: Added to the root of the second one.

    Raises:
        UserError: it is one of DeepSpeed's and was not built.
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
    """DeepSpeed's, but each step is a function of its number alone, so that a resume is exact.

    Its C++ side carries the powers of the betas on from step to step, and what has been multiplied up is
    rounded otherwise than the power that it computes after a jump of the count. A new C++ side has not
    counted yet, so it computes the power.
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
    """Make loaded states the optimizer's own, whichever AdamW wrote them.

    Their moments are the same. Steps are counted by torch in a tensor beside the weights, by DeepSpeed in an
    int; and what a group holds besides hyperparameters is a matter of the code that reads it.
    """
    for group in optimizer.param_groups:
        group |= {key: value for key, value in optimizer.defaults.items() if key not in _HYPERPARAMETERS}
    counts_in_tensors = isinstance(optimizer, torch.optim.AdamW)
    for weight, state in optimizer.state.items():
        if "step" not in state:
            # Nothing was learned there: a weight without a gradient.
            continue
        count = float(state["step"])
        state["step"] = (
            torch.tensor(count, dtype=torch.float32, device=weight.device)
            if counts_in_tensors
            else int(count)
        )
