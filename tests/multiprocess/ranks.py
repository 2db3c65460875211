"""Functions run on real gloo ranks, for what a whole run would hide."""

import os
import socket
from collections.abc import Callable
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
