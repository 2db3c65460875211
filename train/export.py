"""Exports models as transformers directories: the finished model, or the model of a checkpoint.

`python -m train.export RUN STEP OUT` exports a checkpoint in one process, with less memory than training.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from train.checkpoint.manifest import inspect, verify
from train.checkpoint.store import CheckpointStore
from train.dist import Group
from train.engine.engine import SHARDS, Engine
from train.engine.universal import read_weights, to_universal
from train.failures import UserError
from train.job import load_job
from train.model.load import DTYPES, load_plain_model, load_tokenizer, prepare_model


def export_model(engine: Engine, tokenizer: Any, group: Group, out: Path) -> None:
    """Write model and tokenizer for `from_pretrained(out)`, atomically. Collective.

    Args:
        engine: The engine that holds the model.
        tokenizer: The tokenizer of the model.
        group: All ranks; rank 0 writes.
        out: The directory to write.
    """
    weights = engine.full_state_dict()
    if group.env.is_main:
        model: Any = engine.module
        model.config.use_cache = True
        _write(model, weights, tokenizer, out)
    group.barrier()


def export_checkpoint(root: Path, step: int, out: Path) -> None:
    """Write the model of a committed checkpoint, in the precision of training.

    Raises:
        UserError: The checkpoint does not exist or cannot be used.
    """
    job = load_job(root)
    verdict = verify(inspect(CheckpointStore(job.run_dir.checkpoints).path(step)))
    if verdict.problem or verdict.manifest is None:
        raise UserError(f"cannot export the checkpoint of step {step}: {verdict.problem}")
    directory = prepare_model(job.config.model, seed=job.config.seed, labels=job.plan.labels)
    model = load_plain_model(directory, job.config.model)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
        parts = Path(scratch) / "parts"
        to_universal(verdict.path / SHARDS, parts, unsharded=verdict.manifest.zero_stage == 0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(read_weights(parts, name).view_as(parameter))
    model.to(dtype=DTYPES[job.config.train.precision])
    _write(model, None, load_tokenizer(directory, job.plan.chat_template), out)


def _write(model: Any, weights: dict[str, torch.Tensor] | None, tokenizer: Any, out: Path) -> None:
    staging = out.with_name(f".{out.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    model.save_pretrained(staging, state_dict=weights)
    tokenizer.save_pretrained(staging)
    shutil.rmtree(out, ignore_errors=True)
    staging.rename(out)


if __name__ == "__main__":
    try:
        export_checkpoint(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    except UserError as error:
        sys.exit(str(error))
