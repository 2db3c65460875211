"""Ranks for benchmarks: processes on this machine that find each other over gloo."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def run_ranks(function: Callable[..., None], ranks: int, *arguments: Any) -> None:
    """Call a function on every rank, after its environment is set, and wait for all of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_enter, (ranks, port, function, arguments), nprocs=ranks)


def _enter(
    rank: int, ranks: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DS_ACCELERATOR": "cpu",
    }
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))
    function(*arguments)
