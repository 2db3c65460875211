"""Ranks for benchmarks: processes on this machine that find each other."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train.rank.gc_policy import frozen_imports

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def run_ranks(function: Callable[..., None], ranks: int, *arguments: Any, log: Path | None = None) -> None:
    """Call a function on every rank, after its environment is set, and wait for all of them.

    Ranks are forked from a parent that has imported what they need: an arm costs no imports, and no search
    for garbage among them. For GPUs they are made anew: what a process knows of CUDA does not survive a fork.

    Args:
        function: What a rank does.
        ranks: How many.
        arguments: For it.
        log: Where all that they print goes; None leaves it on the terminal.

    Raises:
        ProcessException: a rank failed; what it printed last is on stderr.
    """
    with frozen_imports():
        import deepspeed  # noqa: F401 - so that the ranks have it
        from transformers import Trainer  # noqa: F401 - likewise, with the models that it imports
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.multiprocessing.spawn import ProcessException, start_processes

    # Kept here, as by torch's elastic agent: who came before rank 0 would wait half a second for its store.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    try:
        start_processes(  # type: ignore[no-untyped-call]
            _enter,
            (ranks, store.port, function, arguments, log),
            nprocs=ranks,
            start_method="fork" if _on_cpu() else "spawn",
        )
    except ProcessException:
        if log:
            print(log.read_text()[-3000:], file=sys.stderr)
        raise


def measured_alone(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a function returns in a process of its own, as JSON can hold it: its peak of memory is its own."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "result.json"
        run_ranks(_write_measured, 1, out, measure, *arguments, log=Path(name) / "rank.log")
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def _write_measured(out: Path, measure: Callable[..., dict[str, Any]], *arguments: Any) -> None:
    out.write_text(json.dumps(measure(*arguments)))


def _on_cpu() -> bool:
    """What DeepSpeed trains on is decided before anything imports it, for the process and its ranks."""
    return os.environ["DS_ACCELERATOR"] == "cpu"


def _enter(
    rank: int,
    ranks: int,
    port: int,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    log: Path | None,
) -> None:
    import torch

    threads = max(1, (os.cpu_count() or 1) // ranks)
    os.environ |= {
        # A rank of Shardline goes by it, as the node agent sets it.
        "OMP_NUM_THREADS": str(threads),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    if _on_cpu():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if log:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
    torch.set_num_threads(threads)
    function(*arguments)
