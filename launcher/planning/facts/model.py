"""Facts about the model of a config, read from its files without torch."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from train.failures import UserError
from train.families import altered_logits, model_kind
from train.model.sources import ModelFiles, resolve_source

_KIND_OF_TASK = {"causal": "decoder", "classification": "encoder"}
_TASK_OF_KIND = {kind: task for task, kind in _KIND_OF_TASK.items()}


def look_at_model(config: RunConfig) -> tuple[ModelFiles | None, list[Problem]]:
    """Find the files of a model, and all problems that prevent training it.

    Returns:
        The files (None if they cannot be read), and the problems.
    """
    try:
        files = resolve_source(config.model.source)
        problems = [
            *_kind(config, files),
            *_weights(config, files),
            *_tokenizer(files),
            *_logits(config, files),
        ]
    except UserError as error:
        fix = "set model.source to a local folder or a downloaded Hugging Face model"
        return None, [_problem("model.source", str(error), fix)]
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
            f"unsupported model type {name!r} ({source}): neither a GPT-like decoder nor a BERT-like encoder",
            "set model.source to a decoder (model.task=causal) or an encoder (model.task=classification)",
        )
    elif kind != needed:
        yield _problem(
            "model.task",
            f"model.task={task} needs {needed} models, but {source} is of type {name} ({kind})",
            f"set model.task={_TASK_OF_KIND[kind]}, or choose another model",
            field="model.task",
        )


def _weights(config: RunConfig, files: ModelFiles) -> Iterator[Problem]:
    if config.model.init == "pretrained" and not files.has_weights:
        yield _problem(
            "model.weights",
            f"no weights (*.safetensors) in {files.directory}",
            "add the weights, or set model.init=random to initialise them from the seed",
        )


def _tokenizer(files: ModelFiles) -> Iterator[Problem]:
    if not files.has_tokenizer:
        yield _problem(
            "model.tokenizer",
            f"no tokenizer in {files.directory}",
            "add the tokenizer's files, such as tokenizer.json",
        )
    size, room = files.tokenizer_size, files.config.get("vocab_size")
    if size and room and size > room:
        yield _problem(
            "model.tokenizer",
            f"the tokenizer has {size} tokens, but the model has only {room} embeddings",
            "use the tokenizer that belongs to the model",
        )


def _logits(config: RunConfig, files: ModelFiles) -> Iterator[Problem]:
    altered = altered_logits(files.config)
    if altered and config.model.task == "causal":
        yield _problem(
            "model.logits",
            f"{config.model.source} changes its logits ({altered[0]}); the loss head does not support this",
            f"choose a model without {altered[0]}",
        )
