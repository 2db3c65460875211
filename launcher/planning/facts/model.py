"""What is true of the model that a config names, as far as its files tell without torch."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from train.failures import UserError
from train.families import altered_logits, model_kind
from train.model.sources import ModelFiles, resolve_source

_KIND_OF_TASK = {"causal": "decoder", "classification": "encoder"}


def look_at_model(config: RunConfig) -> tuple[ModelFiles | None, list[Problem]]:
    """Find the model's files, and everything that keeps this run from training it."""
    try:
        files = resolve_source(config.model.source)
        problems = [
            *_kind(config, files),
            *_weights(config, files),
            *_tokenizer(files),
            *_logits(config, files),
        ]
    except UserError as error:
        return None, [_problem("model.source", str(error), "mend model.source")]
    return files, problems


def _problem(code: str, message: str, fix: str, field: str = "model.source") -> Problem:
    return Problem(code=code, field=field, message=message, fix=fix)


def _kind(config: RunConfig, files: ModelFiles) -> Iterator[Problem]:
    source, task = config.model.source, config.model.task
    kind, needed = model_kind(files.config), _KIND_OF_TASK[task]
    name = files.config.get("model_type", "unknown")
    if kind is None:
        yield _problem(
            "model.kind",
            f"{source} is a {name} model, neither a GPT-like decoder nor a BERT-like encoder",
            "choose a decoder (task causal) or an encoder (task classification)",
        )
    elif kind != needed:
        yield _problem(
            "model.task",
            f"{source} is a {name} {kind}, and model.task={task} needs a {needed}",
            "change model or model.task",
            field="model.task",
        )


def _weights(config: RunConfig, files: ModelFiles) -> Iterator[Problem]:
    if config.model.init == "pretrained" and not files.has_weights:
        yield _problem(
            "model.weights",
            f"{files.directory} holds no weights (*.safetensors)",
            "add them, or draw them from the seed with model.init=random",
        )


def _tokenizer(files: ModelFiles) -> Iterator[Problem]:
    if not files.has_tokenizer:
        yield _problem(
            "model.tokenizer",
            f"{files.directory} holds no tokenizer",
            "add its files, such as tokenizer.json",
        )
    size, room = files.tokenizer_size, files.config.get("vocab_size")
    if size and room and size > room:
        yield _problem(
            "model.tokenizer",
            f"the tokenizer has {size} tokens, the model's embeddings only {room}",
            "use the tokenizer that belongs to the model",
        )


def _logits(config: RunConfig, files: ModelFiles) -> Iterator[Problem]:
    altered = altered_logits(files.config)
    if altered and config.model.task == "causal":
        yield _problem(
            "model.logits",
            f"{config.model.source} changes its logits ({altered[0]}), which the loss head does not",
            "choose a model without it",
        )
