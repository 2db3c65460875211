"""Checks that a node can run its ranks, before they start. Imports torch only to count GPUs."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from train.job import TrainPlan

_PROBE_BYTES = 1 << 20
_CHECK_WITHIN_S = 120


def node_faults(plan: TrainPlan, folders: dict[str, Path]) -> list[str]:
    """Return the faults of this node; empty if it is healthy.

    Args:
        plan: The plan, with the required GPUs and memory.
        folders: Folders that must be writable, by their names for messages.
    """
    checks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _gpus(plan),
        lambda: _memory(plan),
        lambda: _disks(folders),
        lambda: _own_check(plan.node_check),
    )
    return [fault for check in checks for fault in check()]


def _gpus(plan: TrainPlan) -> Iterator[str]:
    if plan.device != "cuda":
        return
    # A start on CPUs is spared this import.
    import torch

    found = torch.cuda.device_count()
    if found < plan.ranks_per_node:
        yield f"{found} usable GPUs, {plan.ranks_per_node} needed"


def _memory(plan: TrainPlan) -> Iterator[str]:
    needed_gb = (plan.host_gb_per_rank or 0.0) * plan.ranks_per_node
    free_gb = psutil.virtual_memory().available / 1e9
    if needed_gb > free_gb:
        yield f"{free_gb:.1f} GB of free memory, {needed_gb:.1f} GB needed"


def _disks(folders: dict[str, Path]) -> Iterator[str]:
    for name, folder in folders.items():
        probe = folder / f".probe_{os.uname().nodename}_{os.getpid()}"
        content = os.urandom(_PROBE_BYTES)
        try:
            with probe.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if probe.read_bytes() != content:
                yield f"{name} ({folder}) returned different bytes than were written"
        except OSError as error:
            yield f"cannot write to {name} ({folder}): {error.strerror}"
        finally:
            # A disk that is read-only or gone refuses this too, and must not hide what was found.
            with suppress(OSError):
                probe.unlink()


def _own_check(program: str | None) -> Iterator[str]:
    if program is None:
        return
    try:
        done = subprocess.run([program], capture_output=True, text=True, timeout=_CHECK_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield f"hardware.node_check={program} could not be run: {error}"
        return
    if done.returncode:
        output = (done.stdout + done.stderr).strip()[-300:]
        found = f"hardware.node_check={program} exited with code {done.returncode}"
        yield f"{found}: {output}" if output else found
