"""AdamW's parameter groups and the learning rate schedule."""

import math

import torch

from train.config import OptimConfig
from train.kernels.adamw import make_adamw


def learning_rate(config: OptimConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of a step (1-based). Pure, so it is the same after a resume.

    The rate rises linearly to the peak at `warmup_steps` and then falls to `min_lr_ratio` of the peak at
    `total_steps`: by a cosine (Loshchilov and Hutter, arXiv 1608.03983), linearly, not at all, or only in the
    last `decay_fraction` of the run (WSD, Hu et al., arXiv 2404.06395).
    """
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    remaining = total_steps - config.warmup_steps
    done = (step - config.warmup_steps) / max(remaining, 1)
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * _shape(config, done, total_steps))


def _shape(config: OptimConfig, done: float, total_steps: int) -> float:
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "linear":
        return 1 - done
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    decay_share = config.decay_fraction * total_steps / max(total_steps - config.warmup_steps, 1)
    return min(1.0, (1 - done) / decay_share) if decay_share else 1.0


def build_optimizer(
    model: torch.nn.Module, config: OptimConfig, *, kernel: str = "fused"
) -> torch.optim.Optimizer:
    """Return AdamW of the given kernel, with weight decay on matrices but not on biases and norms."""
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            # Under ZeRO-3 a parameter is a flat shard; DeepSpeed keeps the full shape in ds_shape.
            dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
            (decayed if dimensions >= 2 else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return make_adamw(
        kernel,
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )
