"""Imports the modules that ranks need, before the ranks are forked."""

import importlib
from pathlib import Path

import torch

import train.rank.setup  # noqa: F401 - imported for the ranks
from train.job import load_job
from train.model.load import import_model_code

LAZY = (
    # transformers and DeepSpeed import these on first use, which is a third of a start.
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.runtime.zero.muon.muon_optimizer",
)
"""Modules that every run needs, independent of its model."""


def import_for(run_dir: Path) -> None:
    """Import the parts of transformers and DeepSpeed that the model of this run uses, and wandb if enabled.

    Raises:
        RuntimeError: An import initialised CUDA, which cannot be used in a forked process.
    """
    config = load_job(run_dir).config
    for name in LAZY:
        importlib.import_module(name)
    if config.tracking.wandb != "disabled":
        importlib.import_module("wandb")
    import_model_code(config.model)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError(
            "an import initialised CUDA, which forked ranks cannot use; set train.start_method=spawn"
        )
