"""The sections of a config that the training code owns, typed once. Torch-free.

`TrainingConfig` is what makes a trial: two runs with equal training sections are the same trial.
The launcher adds where it runs (`launcher/config.py`). Attribute docstrings are the reference.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from train.formats.registry import accept_name

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
FormatName = Annotated[str, BeforeValidator(accept_name)]
"""One of the formats of `train/formats/registry.py`."""
Overlong = Literal["cut", "split", "drop"]


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _absolute_source(source: str) -> str:
    kind, _, name = source.partition(":")
    return f"path:{_absolute(name)}" if kind == "path" else source


FilePath = Annotated[str, AfterValidator(_absolute)]
"""Relative to the folder of the command, made absolute at once: jobs and resumes start elsewhere."""
ModelSource = Annotated[str, Field(pattern=r"^(hub|path|package):.+"), AfterValidator(_absolute_source)]


class Section(BaseModel):
    """A group of settings: unknown keys and wrong types are errors, values never change later."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
    )


class ModelConfig(Section):
    """Which pretrained model, and how it is opened."""

    source: ModelSource
    """`hub:ID` (in the local Hugging Face cache), `path:DIR` or `package:NAME` (a pip package)."""
    task: Literal["causal", "classification"] = "causal"
    """`causal`: a GPT-like decoder learns to answer. `classification`: a BERT-like encoder gets a head."""
    chat_template: FilePath | None = None
    """A Jinja file in place of the tokenizer's chat template; models never tuned for chat have none."""
    init: Literal["pretrained", "random"] = "pretrained"
    """`random` draws the weights from the seed; only the shape and the tokenizer come from the source."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Attention implementation in transformers, planned and checked as those of `kernels` are.
    `flash_attention_2` is for GPUs, bf16 or fp16, and needs the package flash-attn; its gradients are summed
    in no fixed order. `auto` takes it for packed rows where it can be had, and sdpa for all else."""
    dropout: Fraction | None = None
    """Sets every dropout probability of the model; null keeps the model's own."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """What a layer's forward pass keeps for the backward pass. `none`: everything. `selective`: results of
    matrix products and of fused attention; the cheap rest is computed again. `full`: the layer's input, and
    all of it is computed again: least memory, about a third more work."""
    compile: bool = False
    """Compile each layer with torch.compile, for training (ZeRO stages 0 to 2); scores and answers are
    computed uncompiled. The journal tells graphs, graph breaks and seconds. CPU ranks need a C++ compiler."""


class DataConfig(Section):
    """Where the rows are and how they become tokens."""

    train: FilePath
    """Training rows: .jsonl, .json, .csv or .parquet."""
    validation: FilePath | None = None
    """Rows for the loss during training and for choosing the best checkpoint."""
    test: FilePath | None = None
    """Rows that only the final assessment sees, base against tuned."""
    format: FormatName
    """`messages` (chat turns; assistant turns are trained), `prompt_completion` (the completion is trained),
    `text` (everything is trained) or `labelled` (`text` and `label`, for classification)."""
    max_length: Annotated[int, Field(ge=8)] = 1024
    """Tokens per document, and per sequence, at most."""
    overlong: Overlong = "cut"
    """What becomes of a training row of more tokens: its end is cut off (a row whose trained part is cut away
    is refused), it is `split` into several documents (decoders), or it is left out (`drop`). Rows that are
    only scored are always cut, so that scores compare."""
    packing: bool = False
    """Several training documents in one sequence of up to `max_length` tokens (decoders). None sees another;
    the loss of each is what it would be alone. Batch sizes count sequences."""
    group_by_length: bool = False
    """Batches of rows of like length: little padding without packing, but less random an order."""


class CrossValidationConfig(Section):
    """A run as one of several that hold out a part of the training rows each."""

    folds: Annotated[int, Field(ge=2)] | None = None
    """Parts that the training rows are dealt into, with equal shares of each label; null does without."""
    fold: NonNegativeInt | None = None
    """The part, counted from 0, that is not trained on and that the final assessment scores in place of
    data.test, which is left alone. Null with folds set trains on all rows, for the final model."""
    group: str | None = None
    """A field of the rows, such as a customer or a document: rows with the same value stay in one fold. Rows
    of the same content always do."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Draws the folds, whatever the run's own seed."""


class TrainConfig(Section):
    """How long, in what batches, at what precision."""

    max_steps: PositiveInt | None = None
    """Optimizer steps at most."""
    epochs: Annotated[float, Field(gt=0.0, le=100_000)] | None = None
    """Passes over the training rows at most. The first limit reached ends the run."""
    max_tokens: PositiveInt | None = None
    """Tokens without padding at most, rounded up to whole global batches."""
    global_batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """Sequences per optimizer step, over all ranks; does not change with the number of GPUs."""
    micro_batch_size: PositiveInt = 1
    """Sequences per rank and forward pass; accumulation makes up the rest of the global batch."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Dtype of weights and activations; the optimizer always keeps fp32 copies."""
    log_every_steps: PositiveInt = 1
    """Steps between two lines of metrics."""
    hang_timeout_s: Annotated[float, Field(ge=1.0)] = 600.0
    """Silence of a rank in the middle of a step after which all ranks are started again; a start, a first
    step, a save and an assessment may take six times as long."""
    bad_steps: PositiveInt = 3
    """Steps in a row whose gradients are not finite (each is skipped) before the run goes back to the last
    checkpoint and leaves these batches out; three times at most."""
    spike: Literal["none", "alert", "rollback"] = "alert"
    """What a jump of the loss leads to: nothing, a line in the journal, or as with `bad_steps`."""
    trace: bool = False
    """Write the ids of the documents of every global batch to trace.jsonl."""
    profile_steps: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    """First and last step of which rank 0 keeps a trace of torch's profiler, in `profile/`; these steps take
    longer. null: none."""


class OptimConfig(Section):
    """AdamW and its learning-rate schedule."""

    lr: PositiveFloat = 2e-5
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """After warm-up: half a cosine, a line, nothing, or stable-then-decay (WSD) down to `min_lr_ratio`."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up from 0."""
    decay_fraction: Fraction = 0.2
    """WSD only: the last part of the run in which the rate falls."""
    min_lr_ratio: Fraction = 0.0
    """The final rate as a share of the peak."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay; biases, norms and other vectors are left out."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    eps: PositiveFloat = 1e-8
    clip_norm: NonNegativeFloat = 1.0
    """Global gradient norm above which gradients are scaled down; 0 turns clipping off."""


class KernelsConfig(Section):
    """Fused kernels: `auto` takes what device and model allow, a name insists on it, `torch` does without."""

    loss_head: Literal["auto", "chunked", "torch"] = "auto"
    """`chunked`: projection and cross entropy a few tokens at a time; tokens x vocabulary is never made."""
    rms_norm: Literal["auto", "liger", "torch"] = "auto"
    swiglu: Literal["auto", "liger", "torch"] = "auto"
    rope: Literal["auto", "liger", "torch"] = "auto"
    optimizer: Literal["auto", "fused", "fused_adam", "cpu_adam", "torch"] = "auto"
    """`fused`: torch's AdamW as one kernel, on GPU or host. DeepSpeed's are compiled once: `fused_adam` for
    GPUs at zero.stage 1 to 3, `cpu_adam` for zero.offload_optimizer."""
    on_mismatch: Literal["refuse", "fall_back"] = "refuse"
    """Every start compares each engaged kernel with its reference. `fall_back` goes on with the reference
    where they differ, and journals it."""


class ZeroConfig(Section):
    """DeepSpeed ZeRO: what is sharded over the ranks, and what is kept on the host."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """0 nothing, 1 optimizer states, 2 and gradients, 3 and parameters."""
    offload_optimizer: bool = False
    """Optimizer states and step on the CPU (stages 1 to 3)."""
    offload_params: bool = False
    """Parameters on the CPU between uses (stage 3)."""
    bucket_elements: PositiveInt = 50_000_000
    """Elements per communication bucket."""


class CheckpointConfig(Section):
    """When to save and what to keep."""

    every_steps: PositiveInt | Literal["auto"] | None = None
    """Steps between checkpoints; null saves only at the end and on a stop. `auto` takes the interval that
    loses least to saving and to kills (Young 1974), from the measured stall and `kill_every_min`."""
    every_min: PositiveFloat | None = None
    """Minutes between checkpoints, besides the steps."""
    kill_every_min: PositiveFloat = 480.0
    """Expected time between two kills, for `every_steps=auto`."""
    asynchronous: bool = True
    """Train on while a checkpoint is written: the training waits only for a copy in host memory."""
    keep_last: PositiveInt = 2
    """Newest checkpoints to keep; the best one by validation is kept besides."""
    keep_every_steps: PositiveInt | None = None
    """Also keep those whose step is a multiple of this."""


class EvalConfig(Section):
    """What is measured during the run and at its end."""

    every_steps: PositiveInt | None = None
    """Steps between validations; null validates only at the end."""
    patience: PositiveInt | None = None
    """Validations in a row without a better validation loss after which the run ends; null never ends it."""
    batch_size: PositiveInt = 8
    """Sequences per rank and forward pass."""
    base: bool = True
    """Assess the untouched base model first, so that the end has something to compare with."""
    general: FilePath | None = None
    """A second set, unrelated to the task, in the same format: what is forgotten shows here."""
    answers: NonNegativeInt = 0
    """Held-out questions (of data.test, or of the fold that is held out) that base and tuned model answer.
    Decoders on `messages` only."""
    answer_tokens: PositiveInt = 96
    """Tokens per answer at most."""


class TrackingConfig(Section):
    """Weights & Biases; metrics.jsonl is always written."""

    wandb: Literal["online", "offline", "disabled"] = "offline"
    """`offline` keeps the W&B files in the run directory for `wandb sync`."""
    project: str = "shardline"
    entity: str | None = None
    tags: list[str] = []


class TrainingConfig(Section):
    """Everything that a rank needs to know."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Letters, digits, dot, dash and underscore; the run directory starts with it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides the order of the data, the dropout and every random weight."""
    model: ModelConfig
    data: DataConfig
    cv: CrossValidationConfig
    train: TrainConfig
    optim: OptimConfig
    kernels: KernelsConfig
    zero: ZeroConfig
    checkpoint: CheckpointConfig
    eval: EvalConfig
    tracking: TrackingConfig

    @property
    def wanted_kernels(self) -> dict[str, str]:
        """By kernel: the name that the config gives."""
        return {**self.kernels.model_dump(exclude={"on_mismatch"}), "attention": self.model.attention}
