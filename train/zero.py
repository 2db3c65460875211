"""Builds DeepSpeed's JSON configuration; no other module uses its keys. Torch-free, without "auto" values."""

from typing import Any, Literal

from train.batch import BatchPlan
from train.config import TrainingConfig


def deepspeed_config(
    config: TrainingConfig, batch: BatchPlan, *, device: Literal["cpu", "cuda"]
) -> dict[str, Any]:
    """Return the complete configuration for `deepspeed.initialize`."""
    precision = config.train.precision
    result: dict[str, Any] = {
        "train_batch_size": batch.global_batch_size,
        "train_micro_batch_size_per_gpu": batch.micro_batch_size,
        "gradient_accumulation_steps": batch.accumulation,
        "gradient_clipping": config.optim.clip_norm,
        "zero_optimization": _zero_section(config, device, batch.world_size),
        # We build the optimizer (train/kernels/adamw.py); DeepSpeed considers torch's fused AdamW untested.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
    }
    return result


def _zero_section(config: TrainingConfig, device: str, ranks: int) -> dict[str, Any]:
    zero = config.zero
    section: dict[str, Any] = {
        "stage": zero.stage,
        "reduce_bucket_size": zero.bucket_elements,
        "allgather_bucket_size": zero.bucket_elements,
        # It takes a second bucket; one rank has nothing to send meanwhile.
        "overlap_comm": device == "cuda" and zero.stage >= 2 and ranks > 1,
        "contiguous_gradients": True,
        "round_robin_gradients": False,
    }
    pinned = device == "cuda"
    if zero.offload_optimizer:
        section["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
    if zero.offload_params:
        section["offload_param"] = {"device": "cpu", "pin_memory": pinned}
    if zero.stage == 3:
        section |= {
            "stage3_prefetch_bucket_size": zero.bucket_elements,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
            "stage3_param_persistence_threshold": 100_000,
        }
    return section
