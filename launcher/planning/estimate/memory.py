"""Estimates of the memory and disk space of a run. Pure arithmetic; each formula cites its source."""

from dataclasses import dataclass

from launcher.planning.estimate.shape import ModelShape
from train.batch import BatchPlan
from train.config import TrainingConfig
from train.kernels.table import CHUNK_BYTES, Device, logit_bytes

GB = 1e9
_RUNTIME_GB: dict[Device, float] = {"cpu": 0.9, "cuda": 1.5}
"""Memory of one rank for interpreter, libraries and allocator; on a GPU, CUDA context and NCCL buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Memory of one rank in GB (10^9 bytes), on the device that holds the model."""

    device: Device

    weights_gb: float
    gradients_gb: float
    optimizer_gb: float
    activations_gb: float
    logits_gb: float
    runtime_gb: float
    offloaded_gb: float
    """States that offload moves to host memory. A CPU rank still has to hold them."""
    save_copy_gb: float
    """Host memory for the copy made by a save, on the rank that writes most."""

    @property
    def total_gb(self) -> float:
        """Memory that one rank needs on its device."""
        return (
            self.weights_gb
            + self.gradients_gb
            + self.optimizer_gb
            + self.activations_gb
            + self.logits_gb
            + self.runtime_gb
            + (self.host_gb if self.device == "cpu" else 0)
        )

    @property
    def host_gb(self) -> float:
        """Memory that a rank needs on the host for offloaded states and for saving."""
        return self.offloaded_gb + self.save_copy_gb


def estimate_memory(
    config: TrainingConfig, shape: ModelShape, batch: BatchPlan, device: Device
) -> MemoryEstimate:
    """Estimate the memory of one rank.

    The formulas for model states are from ZeRO (Rajbhandari et al., arXiv 1910.02054), those for activations
    from Korthikanti et al. (arXiv 2205.05198) with fused attention.

    Args:
        config: The training config.
        shape: Shape of the model.
        batch: The batch plan, with micro-batch and number of ranks.
        device: The device that holds the model.
    """
    ranks, stage = batch.world_size, config.zero.stage
    width = 4 if config.train.precision == "fp32" else 2
    parameters = shape.parameters
    weights = parameters * width / (ranks if stage == 3 else 1)
    gradients = parameters * width / (ranks if stage >= 2 else 1)
    master = 0 if config.train.precision == "fp32" and stage == 0 else 4
    optimizer = parameters * (8 + master) / (ranks if stage >= 1 else 1)
    offloaded = (optimizer if config.zero.offload_optimizer else 0) + (
        weights if config.zero.offload_params else 0
    )
    # Rank 0 writes most: the weights (all of them below stage 3), and its shard of moments and master copy.
    save_copy = (parameters * width if stage < 3 else 0) + parameters * (8 + master) / (ranks if stage else 1)
    tokens = batch.micro_batch_size * config.data.max_length
    activations = tokens * _activation_bytes_per_token(config, shape, width)
    logits = _logits_bytes(config, shape, tokens, width, device) if shape.kind == "decoder" else 0
    return MemoryEstimate(
        device=device,
        weights_gb=(0 if config.zero.offload_params else weights) / GB,
        gradients_gb=gradients / GB,
        optimizer_gb=(0 if config.zero.offload_optimizer else optimizer) / GB,
        activations_gb=activations / GB,
        logits_gb=logits / GB,
        runtime_gb=_RUNTIME_GB[device],
        offloaded_gb=offloaded / GB,
        save_copy_gb=save_copy / GB,
    )


def _activation_bytes_per_token(config: TrainingConfig, shape: ModelShape, width: int) -> int:
    """Return the bytes of all layers' activations per token, when the backward pass begins.

    A layer that keeps everything has 34 bytes per token and hidden unit at two bytes a number (Korthikanti
    et al., arXiv 2205.05198, equation 2 without the scores). A checkpointed one keeps its input and, with
    `selective`, the results of its products and its attention (train/model/activation_checkpointing.py,
    measured by its tests). One layer, the last or the one being recomputed, is kept in full.
    """
    whole_layer = 34 * shape.hidden * width // 2
    kept = {"none": whole_layer, "selective": shape.product_elements * width, "full": 0}
    others = (shape.layers - 1) * kept[config.model.activation_checkpointing]
    return shape.layers * shape.hidden * width + others + whole_layer


def _logits_bytes(config: TrainingConfig, shape: ModelShape, tokens: int, width: int, device: Device) -> int:
    """Return the bytes of one chunk of logits and the weight gradient in fp32, or of all logits unchunked."""
    if config.kernels.loss_head == "torch":
        # The logits in the training dtype, their fp32 copy and its gradient.
        return tokens * shape.vocab * (width + 8)
    chunk = min(CHUNK_BYTES[device], logit_bytes(width) * tokens * shape.vocab)
    return chunk + shape.vocab * shape.hidden * (4 + 2 * width)


def checkpoint_bytes(config: TrainingConfig, shape: ModelShape) -> int:
    """Return the bytes of one checkpoint: weights, fp32 master copy and both Adam moments."""
    width = 4 if config.train.precision == "fp32" else 2
    master = 0 if config.train.precision == "fp32" and config.zero.stage == 0 else 4
    return shape.parameters * (width + master + 8)


def disk_bytes(config: TrainingConfig, shape: ModelShape) -> int:
    """Return the largest size of a run directory: kept checkpoints, the best, one being written, the export.

    A run that saves only at its end and when it is stopped has two checkpoints: the one of the stop, and the
    last one while it is written.
    """
    checkpoint = config.checkpoint
    if (checkpoint.every_steps, checkpoint.every_min, config.eval.every_steps) == (None, None, None):
        return 2 * checkpoint_bytes(config, shape) + 2 * shape.parameters * 2
    kept = checkpoint.keep_last + 1 + (1 if config.data.validation else 0)
    if checkpoint.keep_every_steps and config.train.max_steps:
        kept += config.train.max_steps // checkpoint.keep_every_steps
    return kept * checkpoint_bytes(config, shape) + 2 * shape.parameters * 2
