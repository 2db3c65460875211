"""Loads a model from its source on all ranks.

First a directory with complete weights is made once, under a lock, if the source has to be converted,
initialised or given a head. Then every rank calls `from_pretrained`, which ZeRO-3 partitions while loading.
Every start takes this path, so that all ZeRO stages begin with the same weights.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.integrations import HfDeepSpeedConfig

from train.cache import cache_dir, key_of, made_once
from train.config import ModelConfig
from train.failures import UserError
from train.families import dropout_keys
from train.kernels.apply import apply_layer_kernels, attach_loss_head
from train.kernels.check import Heads
from train.kernels.table import KernelChoice
from train.model.activation_checkpointing import checkpoint_layers
from train.model.loss import token_loss_sum, token_losses
from train.model.sources import WEIGHT_PATTERNS, ModelFiles, resolve_source

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_LAYOUT_VERSION = 1


def load_tokenizer(directory: Path, chat_template: str | None = None) -> Any:
    """Return the model's tokenizer, with a padding token.

    Args:
        directory: A transformers directory.
        chat_template: Text of a chat template that replaces the model's.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_key(directory: Path, chat_template: str | None = None) -> str:
    """Return a hash of the files that determine tokenization."""
    digest = hashlib.sha256((chat_template or "").encode())
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
    for name in (*names, "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model"):
        if (directory / name).exists():
            digest.update(name.encode() + (directory / name).read_bytes())
    return digest.hexdigest()


def prepare_model(config: ModelConfig, *, seed: int, labels: list[str]) -> Path:
    """Return a transformers directory with all weights that the run starts from.

    Raises:
        UserError: The source is missing or cannot be used for the task.
    """
    files = resolve_source(config.source)
    if files.gguf:
        gguf = files.gguf
        directory = _kept("gguf", _content_key(files), lambda out: _convert_gguf(gguf, out))
        files = ModelFiles(directory, files.config)
    if config.task == "classification":
        recipe = [_content_key(files), labels, seed, config.init]
        return _kept("head", recipe, lambda out: _add_head(files.directory, config, labels, seed, out))
    if config.init == "random":
        recipe = [_content_key(files), seed]
        return _kept("random", recipe, lambda out: _initialise(files.directory, seed, out))
    return files.directory


def load_plain_model(directory: Path, config: ModelConfig) -> Any:
    """Return the model in fp32 on the CPU, unmodified."""
    return _auto_class(config).from_pretrained(directory, dtype=torch.float32)


def import_model_code(config: ModelConfig) -> None:
    """Import the module of the model's class; a model that is not found is reported by the ranks later."""
    try:
        model_type = resolve_source(config.source).config.get("model_type")
        settings_class = transformers.CONFIG_MAPPING[model_type]
        classes: Any = _auto_class(config)._model_mapping
        classes[settings_class]
    except (UserError, KeyError):
        return


def attention_heads(directory: Path, config: ModelConfig) -> Heads:
    """Return number and size of the model's attention heads."""
    settings: Any = transformers.AutoConfig.from_pretrained(directory)
    queries = settings.num_attention_heads
    return Heads(
        queries=queries,
        keys=getattr(settings, "num_key_value_heads", None) or queries,
        size=getattr(settings, "head_dim", None) or settings.hidden_size // queries,
        causal=config.task == "causal",
    )


def load_model(
    directory: Path,
    config: ModelConfig,
    kernels: Mapping[str, KernelChoice],
    *,
    precision: str,
    deepspeed: dict[str, Any],
) -> tuple[torch.nn.Module, HfDeepSpeedConfig | None]:
    """Load the weights and install the chosen kernels; under ZeRO-3 each rank keeps only its partition.

    Args:
        directory: A directory from `prepare_model`.
        config: The model's section of the config.
        kernels: The chosen kernels.
        precision: Training precision: bf16, fp16 or fp32.
        deepspeed: DeepSpeed's config.

    Returns:
        The model, and an object that transformers needs for ZeRO-3 as long as the model exists.

    Raises:
        UserError: The attention implementation is not available.
    """
    attention = kernels["attention"].name
    if attention == "flash_attention_2" and not transformers.utils.is_flash_attn_2_available():
        raise UserError(
            "model.attention=flash_attention_2 needs a GPU and the package flash-attn, and at least one of"
            " them is missing here; run: pip install flash-attn, or set model.attention=sdpa"
        )
    partitioning = HfDeepSpeedConfig(deepspeed) if deepspeed["zero_optimization"]["stage"] == 3 else None
    settings = transformers.AutoConfig.from_pretrained(directory)
    settings.use_cache = False
    if config.dropout is not None:
        for key in dropout_keys():
            if hasattr(settings, key):
                setattr(settings, key, config.dropout)
    model: Any = _auto_class(config).from_pretrained(
        directory, config=settings, dtype=DTYPES[precision], attn_implementation=attention
    )
    if config.task == "causal":
        _attach_loss(model)
        attach_loss_head(model.get_output_embeddings(), chunked=kernels["loss_head"].name == "chunked")
    apply_layer_kernels(model, kernels)
    if config.activation_checkpointing != "none":
        checkpoint_layers(model, config.activation_checkpointing)
    return model, partitioning


def _attach_loss(model: Any) -> None:
    """Let `model(..., labels=, target_positions=)` return the summed loss, or each row's.

    Only trained positions are projected (`train/model/loss.py`). The loss is computed inside the model's
    forward, so that DeepSpeed's hooks run for every module as usual. Without labels the model's forward is
    unchanged. The plan refuses models that alter their logits after the projection.
    """
    original = model.forward

    def forward(
        *args: Any,
        labels: torch.Tensor | None = None,
        target_positions: torch.Tensor | None = None,
        each_row: bool = False,
        **inputs: Any,
    ) -> Any:
        if labels is None:
            return original(*args, **inputs)
        assert target_positions is not None
        hidden_BTD = model.base_model(**inputs).last_hidden_state
        loss = token_losses if each_row else token_loss_sum
        return loss(hidden_BTD, model.get_output_embeddings(), labels, target_positions)

    model.forward = forward


def _auto_class(config: ModelConfig) -> Any:
    return (
        transformers.AutoModelForSequenceClassification
        if config.task == "classification"
        else transformers.AutoModelForCausalLM
    )


def _content_key(files: ModelFiles) -> str:
    """Return a key that changes with the model's files, without reading the weights."""
    weights = (
        [files.gguf] if files.gguf else sorted(p for g in WEIGHT_PATTERNS for p in files.directory.glob(g))
    )
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    facts = [str(files.directory), dict(files.config), tokenizer_key(files.directory), stats]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _kept(kind: str, recipe: Any, write: Callable[[Path], None]) -> Path:
    """Return the directory that `write` makes for this recipe, at most once per file system."""
    key = key_of([_LAYOUT_VERSION, kind, recipe])
    return made_once(cache_dir() / "models" / f"{kind}-{key}", write)


def _convert_gguf(path: Path, out: Path) -> None:
    """Dequantise a GGUF file into a plain model; transformers cannot save the model as read from GGUF."""
    where: dict[str, Any] = {"gguf_file": path.name}
    # Without `config` the tokenizer and the model would each read the file's header again (seconds).
    where["config"] = settings = transformers.AutoConfig.from_pretrained(path.parent, **where)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **where)
    packed = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **where)
    settings.__dict__.pop("quantization_config", None)
    plain = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _initialise(directory: Path, seed: int, out: Path) -> None:
    settings = transformers.AutoConfig.from_pretrained(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    model.save_pretrained(out)
    load_tokenizer(directory).save_pretrained(out)


def _add_head(directory: Path, config: ModelConfig, labels: list[str], seed: int, out: Path) -> None:
    names = dict(enumerate(labels))
    settings = transformers.AutoConfig.from_pretrained(
        directory, num_labels=len(labels), id2label=names, label2id={v: k for k, v in names.items()}
    )
    build = transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.init == "random":
            model = build.from_config(settings, dtype=torch.float32)
        else:
            model = build.from_pretrained(directory, config=settings, dtype=torch.float32)
    if not any(name.startswith(("classifier", "score")) for name, _ in model.named_parameters()):
        raise UserError(f"{type(model).__name__} of transformers has no classification head")
    model.save_pretrained(out)
    load_tokenizer(directory).save_pretrained(out)
