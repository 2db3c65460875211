"""What is true of this machine and of the files that a config names: read once, then planned with."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.estimate.shape import model_kind
from train.data.rows import SUFFIXES, check_row, file_sha256, read_rows
from train.failures import UserError
from train.job import DataFile
from train.sources import ModelFiles, resolve_source

_SHOWN_ROWS = 10
_KIND_OF_TASK = {"causal": "decoder", "classification": "encoder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Inputs of the plan that do not stand in the config."""

    visible_gpus: int
    cores: int
    memory_gb: float
    runs_place: Path
    """The nearest existing ancestor of the runs directory, or that itself."""
    disk_free_gb: float
    model: ModelFiles | None
    data: dict[str, DataFile]
    labels: list[str]


def gather(config: RunConfig) -> tuple[Facts, list[Problem]]:
    """Look at the machine, the model and every data row; what is wrong comes back as problems."""
    model, problems = _look_at_model(config)
    data, labels, data_problems = _look_at_data(config)
    existing = Path(config.runs_dir)
    while not existing.exists():
        existing = existing.parent
    facts = Facts(
        visible_gpus=count_gpus(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=psutil.virtual_memory().total / 1e9,
        runs_place=existing,
        disk_free_gb=shutil.disk_usage(existing).free / 1e9,
        model=model,
        data=data,
        labels=labels,
    )
    return facts, problems + data_problems


def count_gpus() -> int:
    """GPUs that a process started here would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def _look_at_model(config: RunConfig) -> tuple[ModelFiles | None, list[Problem]]:
    source, task = config.model.source, config.model.task
    try:
        files = resolve_source(source)
    except UserError as error:
        return None, [
            Problem(code="model.source", field="model.source", message=str(error), fix="mend model.source")
        ]
    problems = []
    kind = model_kind(files.config)
    name = files.config.get("model_type", "unknown")
    if kind is None:
        problems.append(
            Problem(
                code="model.kind",
                field="model.source",
                message=f"{source} is a {name} model, neither a GPT-like decoder nor a BERT-like encoder",
                fix="choose a decoder (task causal) or an encoder (task classification)",
            )
        )
    elif kind != _KIND_OF_TASK[task]:
        problems.append(
            Problem(
                code="model.task",
                field="model.task",
                message=f"{source} is a {name} {kind}, and model.task={task} needs a {_KIND_OF_TASK[task]}",
                fix="change model or model.task",
            )
        )
    if config.model.init == "pretrained" and not files.has_weights:
        problems.append(
            Problem(
                code="model.weights",
                field="model.source",
                message=f"{files.directory} holds no weights (*.safetensors)",
                fix="add them, or draw them from the seed with model.init=random",
            )
        )
    size, room = files.tokenizer_size, files.config.get("vocab_size")
    if size and room and size > room:
        problems.append(
            Problem(
                code="model.tokenizer",
                field="model.source",
                message=f"the tokenizer has {size} tokens, the model's embeddings only {room}",
                fix="use the tokenizer that belongs to the model",
            )
        )
    return files, problems


def _look_at_data(config: RunConfig) -> tuple[dict[str, DataFile], list[str], list[Problem]]:
    named = {
        "train": ("data.train", config.data.train),
        "validation": ("data.validation", config.data.validation),
        "test": ("data.test", config.data.test),
        "general": ("eval.general", config.eval.general),
    }
    files: dict[str, DataFile] = {}
    problems: list[Problem] = []
    labels: set[str] = set()
    for role, (field, name) in named.items():
        if name is None:
            continue
        path = Path(name)
        if reason := _unreadable(path):
            problems.append(Problem(code="data.file", field=field, message=reason, fix=f"mend {field}"))
            continue
        rows, bad, found_labels = _look_at_rows(path, config.data.format)
        problems += [
            Problem(
                code="data.row",
                field=field,
                message=line,
                fix=f"mend the row, or set data.format (now {config.data.format})",
            )
            for line in bad
        ]
        if role == "train":
            labels = found_labels
        elif labels and (unknown := sorted(found_labels - labels)):
            problems.append(
                Problem(
                    code="data.label",
                    field=field,
                    message=f"{path} has labels that the training rows lack: {', '.join(unknown)}",
                    fix="train on every class, or take these rows out",
                )
            )
        if rows == 0 and not bad:
            problems.append(
                Problem(code="data.file", field=field, message=f"{path} is empty", fix="add rows")
            )
        files[role] = DataFile(path=str(path), sha256=file_sha256(path), rows=rows)
    return files, sorted(labels), problems


def _unreadable(path: Path) -> str | None:
    if not path.is_file():
        return f"there is no file {path}"
    if path.suffix not in SUFFIXES:
        return f"{path.name} is none of {', '.join(SUFFIXES)}"
    return None if os.access(path, os.R_OK) else f"{path} cannot be read by you"


def _look_at_rows(path: Path, format_name: str) -> tuple[int, list[str], set[str]]:
    """Number of rows, what is wrong with them (`file:line: why`), and the labels they use."""
    good, bad, total_bad, labels = 0, [], 0, set()
    for row in read_rows(path):
        problem = check_row(row, format_name)
        if problem is None:
            good += 1
            if format_name == "labelled":
                labels.add(str(row.value["label"]))
            continue
        total_bad += 1
        if total_bad <= _SHOWN_ROWS:
            bad.append(f"{row.place}: {problem}")
    if total_bad > _SHOWN_ROWS:
        bad.append(f"{path}: {total_bad - _SHOWN_ROWS} more rows like these")
    return good, bad, labels
