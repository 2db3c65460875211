"""Imports the modules that ranks need, before the ranks are forked."""

import importlib
from pathlib import Path

import torch

import train.rank.setup  # noqa: F401 - imported for the ranks
from train.engine.muon import import_muon_uncompiled
from train.job import load_job
from train.model.compiling import keep_compiled_code
from train.model.load import import_model_code

_LAZY = (
    # transformers and DeepSpeed import these on first use, which is a third of a start.
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "deepspeed.module_inject.auto_ep_layer",
)
"""Modules that every run needs, independent of its model."""


def import_for_any_run() -> None:
    """Import what transformers and DeepSpeed import on first use for any model."""
    keep_compiled_code()
    for name in _LAZY:
        importlib.import_module(name)
    import_muon_uncompiled()
    # Compiles a thousand patterns on its first call, for any model: half a second.
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping(None)


def import_for(run_dir: Path) -> None:
    """Import what this run uses of transformers, DeepSpeed and, if enabled, torch's compiler and wandb.

    Raises:
        RuntimeError: An import initialised CUDA, which cannot be used in a forked process.
    """
    config = load_job(run_dir).config
    import_for_any_run()
    if config.model.compile:
        importlib.import_module("torch._inductor.compile_fx")
    if config.tracking.wandb != "disabled":
        importlib.import_module("wandb")
    import_model_code(config.model)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError(
            "an import initialised CUDA, which forked ranks cannot use; set train.start_method=spawn"
        )
