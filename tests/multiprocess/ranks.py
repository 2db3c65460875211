"""Functions run on real gloo ranks, for what a whole run would hide."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Call `function(rank, *arguments)` on every rank; returns what each returned."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mp.get_context("spawn").Manager() as manager:
        answers = manager.dict()
        mp.spawn(_rank, (world_size, port, function, arguments, answers), nprocs=world_size)
        return [answers[rank] for rank in range(world_size)]


def load_on_rank(
    directory: str, *overrides: str, global_batch_size: int, world_size: int
) -> tuple[Any, Any, dict[str, Any], object]:
    """A rank's model as a run of `experiment=smoke` with these overrides loads it from a directory.

    Returns:
        Its config, the model, DeepSpeed's settings, and what must live as long as the model.
    """
    from launcher.compose.run import compose_run
    from train.batch import solve_batch
    from train.kernels.table import Site, choose
    from train.model.load import load_model
    from train.zero import deepspeed_config

    config = compose_run(["experiment=smoke", *overrides]).config
    batch = solve_batch(
        global_batch_size=global_batch_size,
        micro_batch_size=config.train.micro_batch_size,
        world_size=world_size,
    )
    deepspeed = deepspeed_config(config, batch, device="cpu")
    site = Site(device="cpu", family="llama", task="causal", installed=lambda _: False)
    kernels = choose(config.wanted_kernels, site)[0]
    model, keep = load_model(
        Path(directory), config.model, kernels, precision=config.train.precision, deepspeed=deepspeed
    )
    return config, model, deepspeed, keep


def _rank(rank: int, world_size: int, port: int, function: Any, arguments: Any, answers: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    answers[rank] = function(rank, *arguments)
