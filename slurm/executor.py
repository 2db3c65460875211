"""Submitit's only owner: hands a callable to an executor and returns at once."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRequest:
    """What the local executor is asked for."""

    folder: Path
    """Where Submitit keeps its own files and logs."""
    time_min: int
    signal_delay_s: int
    gpus: int
    environ: Mapping[str, str]
    """Variables for the job, added to this process's."""


def submit_local(request: LocalRequest, function: Callable[..., object], *args: Any) -> str:
    """Start a job on this machine that outlives the shell; returns Submitit's job id.

    Submitit's controller stays a child in the caller's session, where Ctrl-C and a closed terminal reach it.
    So it is started from a process of its own session, with nothing of the terminal left open.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _submit_detached(request, function, args, write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = json.loads(pipe.read() or '{"error": "the submitting process died"}')
    os.waitpid(child, 0)
    if "error" in answer:
        raise RuntimeError(f"Submitit could not start the job: {answer['error']}")
    return str(answer["job_id"])


def _submit_detached(
    request: LocalRequest, function: Callable[..., object], args: tuple[Any, ...], write_end: int
) -> None:
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.environ |= dict(request.environ)
        answer = {"job_id": _start(request, function, args)}
    except BaseException as error:  # noqa: BLE001 - travels to the parent through the pipe
        answer = {"error": f"{type(error).__name__}: {error}"}
    os.write(write_end, json.dumps(answer).encode())
    os._exit(0)


def _start(request: LocalRequest, function: Callable[..., object], args: tuple[Any, ...]) -> str:
    import submitit

    executor = submitit.LocalExecutor(folder=request.folder)
    executor.update_parameters(
        timeout_min=request.time_min,
        signal_delay_s=request.signal_delay_s,
        tasks_per_node=1,
        gpus_per_node=request.gpus,
        stderr_to_stdout=True,
    )
    return str(executor.submit(function, *args).job_id)
