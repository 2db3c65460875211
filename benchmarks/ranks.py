"""Starts ranks on this machine for benchmarks."""

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
    """Call a function on every rank, with the environment of a rank, and wait for all of them.

    CPU ranks are forked from this process, which has done their imports, so that no arm pays for imports or
    for garbage collection among the imported objects. GPU ranks are spawned, since CUDA's state does not
    survive a fork.

    Args:
        function: Called on every rank.
        ranks: Number of ranks.
        arguments: Arguments of the function.
        log: File for the output of all ranks; None prints it.

    Raises:
        ProcessException: A rank failed; the end of its output is printed to stderr.
    """
    with frozen_imports():
        import deepspeed  # noqa: F401 - imported before the ranks are forked
        from transformers import Trainer  # noqa: F401 - imported before the ranks are forked
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.multiprocessing.spawn import ProcessException, start_processes

    # This process hosts the store, like torch's elastic agent; ranks that start before rank 0 would otherwise
    # wait half a second for it.
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
    """Call a function in its own process, for a separate peak memory, and return its result through JSON."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "result.json"
        run_ranks(_write_measured, 1, out, measure, *arguments, log=Path(name) / "rank.log")
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def _write_measured(out: Path, measure: Callable[..., dict[str, Any]], *arguments: Any) -> None:
    out.write_text(json.dumps(measure(*arguments)))


def _on_cpu() -> bool:
    """Return whether DeepSpeed uses the CPU, which is set before it is imported, here and in the ranks."""
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
        # Shardline's node agent sets it for its ranks, too.
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
