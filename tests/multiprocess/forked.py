"""Processes forked from one that has imported torch, transformers and DeepSpeed: the product's fork server.

Each pytest process has one such server, so that a rank starts in milliseconds instead of seconds. The server
runs this module (`preload` and `main`), as it runs `train.worker` for a node agent.
"""

import atexit
import base64
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from train.node.starter import Starter
from train.node.supervise import GRACE_S
from train.rundir import RunDir

_ROOT = Path(__file__).resolve().parents[2]
_AT_IMPORT = {
    "CUDA_VISIBLE_DEVICES": "",
    "DS_ACCELERATOR": "cpu",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(_ROOT),
    "THP_MEM_ALLOC_ENABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables that libraries read while they are imported."""
_SET_BY_TORCH = "TORCHINDUCTOR_CACHE_DIR"
"""Torch sets it in a process that has built a model; a rank must not inherit it from pytest."""
_IMPORT_WITHIN_S = 600.0
_LOOK_EVERY_S = 0.2
_EXIT_CODES: dict[int, int] = {}
"""By process id, of all forked processes that have ended."""


class Forked:
    """Processes that were forked together, as the ranks of a run are."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Sequence[Sequence[Any]],
        environs: Sequence[Mapping[str, str]],
        logs: Sequence[Path],
    ) -> None:
        """Call a function of an importable module once per entry of `arguments`, `environs` and `logs`."""
        self._starter = _server()
        self.pids = [
            self._starter.start([_packed(function, *own)], environ, log)
            for own, environ, log in zip(arguments, environs, logs, strict=True)
        ]
        for pid in self.pids:
            _EXIT_CODES.pop(pid, None)

    def processes(self) -> list[psutil.Process]:
        """The processes, which may have ended."""
        return [psutil.Process(pid) for pid in self.pids]

    def codes(self, within_s: float) -> list[int]:
        """Wait until all have ended, and return their exit codes; once one fails, the others are killed.

        Raises:
            TimeoutError: Some did not end in time; they are killed.
        """
        kill_at = deadline = time.monotonic() + within_s
        while running := [pid for pid in self.pids if pid not in _EXIT_CODES]:
            if (ended := self._starter.next_exit(_LOOK_EVERY_S)) is not None:
                # It may belong to another run.
                _EXIT_CODES[ended.pid] = ended.code
            if any(_EXIT_CODES.get(pid) for pid in self.pids):
                kill_at = min(kill_at, time.monotonic() + GRACE_S)
            if time.monotonic() >= kill_at:
                for pid in running:
                    with suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{len(self.pids)} processes did not end in {within_s:.0f} s")
        return [_EXIT_CODES[pid] for pid in self.pids]


def be_rank(run_dir: RunDir) -> None:
    """Be a rank of a run, as `python -m train.worker RUN_DIR RANK` is."""
    import train.worker

    run_dir.adopt_umask()
    train.worker.main([str(run_dir.root), os.environ["RANK"]])


def rank_environ(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What the node agent sets for a rank."""
    return {
        **_inherited(),
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


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != _SET_BY_TORCH}


@cache
def _server() -> Starter:
    """The server of this process, with its imports done."""
    starter = Starter("fork", __name__, [], {**_inherited(), **_AT_IMPORT})
    atexit.register(starter.close)
    starter.wait_ready(_IMPORT_WITHIN_S)
    return starter


def preload() -> None:
    """Import in the server what the ranks of all tests need."""
    from train.rank.gc_policy import frozen_imports
    from train.rank.lean_imports import leave_out_detection_losses

    with frozen_imports():
        leave_out_detection_losses()
        from train.rank.preload import import_for_any_run

        import_for_any_run()
        import tests.multiprocess.preload  # noqa: F401 - imported for the ranks


def main(arguments: Sequence[str]) -> None:
    """Call the function that `Forked` names, in a forked process."""
    function, own = pickle.loads(base64.b64decode(arguments[0]))
    function(*own)


def _packed(function: Callable[..., object], *arguments: Any) -> str:
    return base64.b64encode(pickle.dumps((function, arguments))).decode()
