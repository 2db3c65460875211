"""The sections of a config that the training code owns, with their types and defaults. Imports no torch.

`TrainingConfig` identifies a trial: two runs with equal training sections are the same trial. `RunConfig` in
`launcher/config.py` adds where the run is placed. These classes are the only source of defaults: a file in
`conf/` contains only what its option is about. `docs/config.md` is generated from the fields and their
docstrings (`make docs`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from train.formats.registry import format_names

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
if TYPE_CHECKING:
    FormatName = str
else:
    # A literal of the names in `train/formats/registry.py`, which type checkers cannot evaluate.
    FormatName = Literal[format_names()]
Overlong = Literal["truncate", "split", "drop"]
DataRole = Literal["train", "held_out", "validation", "test", "general"]
"""The uses of rows: training, held out by a fold, validation during training, final assessment, and measuring
forgetting."""


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _absolute_source(source: str) -> str:
    kind, _, name = source.partition(":")
    return f"path:{_absolute(name)}" if kind == "path" else source


FilePath = Annotated[str, AfterValidator(_absolute)]
"""A path, made absolute when the command starts: jobs and resumed runs start in other folders."""
ModelSource = Annotated[str, Field(pattern=r"^(hub|path|package):.+"), AfterValidator(_absolute_source)]


class Section(BaseModel):
    """A group of settings: unknown keys and wrong types are errors, and values cannot be changed.

    `slurm/config.py` has a class of the same name with the same rules, because slurm and train do not import
    each other. A test compares the two.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
    )


class ModelConfig(Section):
    """Which model is trained and how it is loaded."""

    source: ModelSource
    """Where the model comes from: `hub:ID` (a repository in the local Hugging Face cache), `path:DIR` (a
    local directory) or `package:NAME` (an installed pip package that contains weights)."""
    task: Literal["causal", "classification"] = "causal"
    """`causal` trains a GPT-like decoder to generate text. `classification` trains a BERT-like encoder with a
    classification head."""
    chat_template: FilePath | None = None
    """A Jinja file that replaces the tokenizer's chat template. Models without a chat template need one for
    `data.format=messages`."""
    init: Literal["pretrained", "random"] = "pretrained"
    """`pretrained` loads the weights of the source. `random` initialises the weights from `seed` and takes
    only the model's configuration and tokenizer from the source."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """The attention implementation in transformers. `flash_attention_2` needs a GPU, bf16 or fp16, and the
    package flash-attn; its gradients are not deterministic. `auto` selects it for packed rows where it is
    available, and `sdpa` otherwise."""
    dropout: Fraction | None = None
    """Sets every dropout probability of the model. `null` keeps the model's own values."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """What a layer keeps for the backward pass. `none`: all activations. `selective`: the results of matrix
    products and of fused attention; the rest is recomputed. `full`: only the layer's input; everything else
    is recomputed, which needs the least memory and about a third more compute."""
    compile: bool = False
    """Compile each layer with torch.compile for training (ZeRO stages 0 to 2). Evaluation and generation run
    uncompiled. CPU ranks need a C++ compiler."""


class DataConfig(Section):
    """Which rows are used and how they are turned into tokens."""

    train: FilePath
    """Training rows, as a .jsonl, .json, .csv or .parquet file."""
    validation: FilePath | None = None
    """Rows for the validation loss during training, which also selects the best checkpoint."""
    test: FilePath | None = None
    """Rows for the final assessment, which compares the base model with the tuned model."""
    format: FormatName
    """The format of a row: its fields, and what is trained. docs/data.md describes each format."""
    max_length: Annotated[int, Field(ge=8)] = 1024
    """Maximum number of tokens per document and per sequence."""
    overlong: Overlong = "truncate"
    """What happens to a training row with more than `max_length` tokens. `truncate` removes its end (a row
    that loses all its trained tokens is refused), `split` makes several documents of it (decoders only), and
    `drop` leaves it out. Rows that are only evaluated are always truncated, so that scores are comparable."""
    packing: bool = False
    """Put several training documents into one sequence of up to `max_length` tokens (decoders only).
    Documents do not attend to each other, and each has the loss that it has alone. Batch sizes count
    sequences."""
    group_by_length: bool = False
    """Build global batches from rows of similar length. This reduces padding without packing, but makes the
    order of the rows less random."""


class CrossValidationConfig(Section):
    """Splitting the training rows into folds, of which each run holds one out."""

    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of folds, stratified by label. `null` disables cross-validation."""
    fold: NonNegativeInt | None = None
    """The fold to hold out, counted from 0. It is not trained on, and the final assessment uses it instead of
    `data.test`. `null` with `folds` set trains on all rows, for the final model."""
    group: str | None = None
    """A field of the rows, such as a customer or a document. Rows with the same value are put into the same
    fold, as are rows with the same content."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed for the assignment of rows to folds. It does not depend on the run's `seed`."""


class TrainConfig(Section):
    """Length, batch sizes and precision of the training."""

    max_steps: PositiveInt | None = None
    """Maximum number of optimizer steps. At least one of `max_steps`, `epochs` and `max_tokens` has to be
    set; the first limit that is reached ends the run."""
    epochs: Annotated[float, Field(gt=0.0, le=100_000)] | None = None
    """Maximum number of passes over the training rows; fractions are allowed."""
    max_tokens: PositiveInt | None = None
    """Maximum number of tokens, without padding, rounded up to whole global batches."""
    global_batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """Sequences per optimizer step over all ranks. It does not change with the number of ranks."""
    micro_batch_size: PositiveInt = 1
    """Sequences per rank and forward pass. Gradient accumulation makes up the rest of the global batch."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Data type of weights and activations. The optimizer always keeps fp32 copies of the weights."""
    log_every_steps: PositiveInt = 1
    """Number of steps between two entries in metrics.jsonl."""
    hang_timeout_s: Annotated[float, Field(ge=1.0)] = 600.0
    """Seconds without progress of a rank within a step, after which all ranks are restarted. Startup, the
    first step, checkpoints and evaluations may take six times as long."""
    start_method: Literal["auto", "fork", "spawn"] = "auto"
    """How a node starts its ranks. `fork`: one process imports torch, transformers and DeepSpeed, then forks
    all ranks: starts and restarts take less time and read fewer files. `spawn`: each rank is a new Python
    process with its own imports, for libraries that do not work after a fork. `auto`: `fork` for CPU ranks,
    `spawn` for GPUs, where an imported library may start the CUDA driver, which does not survive a fork."""
    bad_steps: PositiveInt = 3
    """Number of consecutive steps with non-finite gradients after which the run returns to its last
    checkpoint and excludes these batches. Each such step is skipped. A run returns to a checkpoint at most
    three times."""
    spike: Literal["none", "alert", "rollback"] = "alert"
    """What happens when the loss jumps. `none`: nothing. `alert`: an event in the journal. `rollback`: the
    run returns to its last checkpoint and excludes the batch, as for `bad_steps`."""
    trace: bool = False
    """Write the ids of the samples of every global batch to trace.jsonl."""
    profile_steps: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    """First and last step that rank 0 records with torch's profiler, in `profile/`. These steps take longer.
    `null` disables the profiler."""


class OptimConfig(Section):
    """AdamW and its learning-rate schedule."""

    lr: PositiveFloat = 2e-5
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """The learning rate after warm-up. `cosine` and `linear` decay to `min_lr_ratio`, `constant` does not
    decay, and `wsd` (warmup-stable-decay) stays at the peak and decays in the last part of the run."""
    warmup_steps: NonNegativeInt = 0
    """Number of steps of linear warm-up from 0."""
    decay_fraction: Fraction = 0.2
    """Share of the run in which the learning rate decays, for `schedule=wsd`."""
    min_lr_ratio: Fraction = 0.0
    """Final learning rate as a share of the peak."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay. It is not applied to biases, norms and other vectors."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """AdamW's decay rate of the first moment."""
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """AdamW's decay rate of the second moment."""
    eps: PositiveFloat = 1e-8
    """AdamW's term for numerical stability."""
    clip_norm: NonNegativeFloat = 1.0
    """Global gradient norm above which gradients are scaled down. 0 disables clipping."""


class KernelsConfig(Section):
    """Fused kernels.

    `auto` selects a kernel that the device and the model support, and `torch` uses none. If any other kernel
    is not available, the run is refused.
    """

    loss_head: Literal["auto", "chunked", "torch"] = "auto"
    """Output projection and cross entropy. `chunked` computes them for a few tokens at a time and never
    builds the matrix of tokens x vocabulary."""
    rms_norm: Literal["auto", "liger", "torch"] = "auto"
    """RMS normalisation. `liger` needs a GPU and the package liger-kernel."""
    swiglu: Literal["auto", "liger", "torch"] = "auto"
    """The SwiGLU activation. `liger` needs a GPU and the package liger-kernel."""
    rope: Literal["auto", "liger", "torch"] = "auto"
    """Rotary position embeddings. `liger` needs a GPU and the package liger-kernel."""
    optimizer: Literal["auto", "fused", "fused_adam", "cpu_adam", "torch"] = "auto"
    """AdamW. `fused` is torch's fused implementation, for GPU and CPU. The other two are DeepSpeed's and are
    compiled once: `fused_adam` for GPUs at `zero.stage` 1 to 3, `cpu_adam` for
    `zero.offload_optimizer=true`."""
    on_mismatch: Literal["refuse", "fall_back"] = "refuse"
    """Every start compares each fused kernel with its reference implementation. If they differ, `refuse` ends
    the run, and `fall_back` uses the reference and records this in the journal."""


class ZeroConfig(Section):
    """DeepSpeed ZeRO: what is partitioned across the ranks and what is offloaded to host memory."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """What is partitioned across the ranks. 0: nothing. 1: optimizer states. 2: also gradients. 3: also
    parameters."""
    offload_optimizer: bool = False
    """Keep the optimizer states in host memory and run the optimizer on the CPU (stages 1 to 3)."""
    offload_params: bool = False
    """Keep parameters in host memory while they are not used (stage 3)."""
    bucket_elements: PositiveInt = 50_000_000
    """Number of elements per communication bucket."""


class CheckpointConfig(Section):
    """When checkpoints are saved and which are kept."""

    every_steps: PositiveInt | Literal["auto"] | None = 100
    """Number of steps between checkpoints. `null` saves only at the end of the run and when it is stopped.
    `auto` computes the interval from the measured cost of a save and from `mtbf_min` (Young 1974)."""
    every_min: PositiveFloat | None = None
    """Minutes between checkpoints, in addition to `every_steps`. `null` disables saving by time."""
    mtbf_min: PositiveFloat = 480.0
    """Expected mean time between two interruptions, in minutes, for `every_steps=auto`."""
    async_save: bool = True
    """Write checkpoints in the background. Training waits only until the state is copied to host memory."""
    keep_last: PositiveInt = 2
    """Number of most recent checkpoints to keep. The best checkpoint by validation loss is always kept."""
    keep_every_steps: PositiveInt | None = None
    """Also keep every checkpoint whose step is a multiple of this number."""


class EvalConfig(Section):
    """Validation during the run and assessment at its end."""

    every_steps: PositiveInt | None = None
    """Number of steps between validations. `null` validates only at the end of the run."""
    patience: PositiveInt | None = None
    """End the run after this number of consecutive validations without a better loss. `null` disables
    this."""
    batch_size: PositiveInt = 8
    """Sequences per rank and forward pass in validation and assessment."""
    base: bool = True
    """Assess the base model before training, to compare the tuned model with it."""
    max_rows: PositiveInt | None = None
    """Maximum number of rows of `data.test`, and of `eval.general`, that are assessed, evenly spread over the
    file. `null` assesses all of them. Held-out rows of a fold are always all assessed."""
    general: FilePath | None = None
    """Rows unrelated to the task, in the same format as the training rows. Their loss before and after the
    training shows what the model forgot."""
    num_samples: NonNegativeInt = 0
    """Number of held-out prompts, from `data.test` or the held-out fold, that both the base model and the
    tuned model answer. Only for decoders with `data.format=messages`."""
    answer_tokens: PositiveInt = 96
    """Maximum number of tokens per answer."""


class TrackingConfig(Section):
    """Weights & Biases. metrics.jsonl is written in any case."""

    wandb: Literal["online", "offline", "disabled"] = "offline"
    """`online` sends metrics to W&B during the run, `offline` keeps W&B's files in the run directory for
    `wandb sync`, and `disabled` does not use W&B."""
    project: str = "shardline"
    """The W&B project."""
    entity: str | None = None
    """The W&B user or team. `null` is the default of the W&B account."""
    tags: list[str] = []
    """Tags of the W&B run."""


class TrainingConfig(Section):
    """The sections that define what is trained."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "run"
    """Name of the run: letters, digits, dot, dash and underscore. The name of the run directory starts with
    it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed for the order of the data, dropout and randomly initialised weights."""
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
        """The requested implementation of each kernel, by the kernel's name."""
        return {**self.kernels.model_dump(exclude={"on_mismatch"}), "attention": self.model.attention}
