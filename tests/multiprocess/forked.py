"""Processes forked from one that has imported torch, transformers and DeepSpeed.

Each pytest process has one such server, Python's own `forkserver`: it has a single thread and never computes,
so a fork inherits neither locks nor pools of threads. A rank then starts in milliseconds instead of seconds.
"""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from train.node.forkserver import ONE_THREAD, redirect_output
from train.node.signals import die_with_parent
from train.rank_environment import RankStart
from train.rundir import RunDir

_ROOT = Path(__file__).resolve().parents[2]
_AT_IMPORT = ONE_THREAD | {
    "CUDA_VISIBLE_DEVICES": "",
    "DS_ACCELERATOR": "cpu",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(_ROOT),
    "TOKENIZERS_PARALLELISM": "false",
}
"""Read by libraries while they are imported."""
_GRACE_S = 20.0


def fork(function: Callable[..., object], *arguments: Any, environ: Mapping[str, str]) -> BaseProcess:
    """Call a function of an importable module in a forked process with this environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.multiprocess.preload"])
    _start_server()
    process = context.Process(target=_enter, args=(dict(environ), function, arguments), daemon=True)
    process.start()
    return process


def be_rank(run_dir: RunDir) -> None:
    """What `python -m train.worker RUN_DIR RANK` does. A rank must import nothing that only tests need."""
    import train.worker

    run_dir.adopt_umask()
    rank = os.environ["RANK"]
    logs = run_dir.attempt_logs(RankStart.from_environ(os.environ).attempt)
    redirect_output(str(logs / f"rank_{rank}.log"))
    train.worker.main([str(run_dir.root), rank])


def rank_environ(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What the node agent sets for a rank."""
    return {
        **os.environ,
        **{name: value for name, value in _AT_IMPORT.items() if name != "PYTHONPATH"},
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // world_size)),
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
    }


def free_port() -> int:
    """A port on which rank 0 can listen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_all(processes: Sequence[BaseProcess], within_s: float) -> list[int]:
    """Wait until all have ended and return their exit codes; when one fails, the others are ended.

    Raises:
        TimeoutError: some still run.
    """
    deadline = time.monotonic() + within_s
    ending = False
    while running := [process for process in processes if process.exitcode is None]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            for process in running:
                process.kill()
            raise TimeoutError(
                f"{len(running)} of {len(processes)} processes did not end in {within_s:.0f} s"
            )
        connection.wait([process.sentinel for process in running], timeout=left_s)
        if not ending and any(process.exitcode for process in processes):
            # As the node agent does: the others may still write down what they saw.
            ending, deadline = True, time.monotonic() + _GRACE_S
            for process in processes:
                if process.exitcode is None:
                    process.terminate()
    return [process.exitcode or 0 for process in processes]


def _start_server() -> None:
    """Start the server, if it does not run yet, with what is read at import."""
    before = dict(os.environ)
    os.environ.update(_AT_IMPORT)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _enter(environ: dict[str, str], function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    die_with_parent()
    # Python's fork server leaves its own method as the default, whose semaphores stay when a rank exits hard.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.clear()
    os.environ.update(environ)
    function(*arguments)
