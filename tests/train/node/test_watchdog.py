"""Silent ranks are found and the right one is blamed; what dead ranks leave in shared memory is removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from train.node.heartbeat import Beat, Heartbeat, read_beats
from train.node.shared_memory import sweep_shared_memory
from train.node.watchdog import LONG_PHASE_FACTOR, find_silent

NEVER = 2**22
"""A process id that no process has."""


def beat(rank: int, at_s: float, *, steady: bool = True, pid: int = NEVER) -> Beat:
    return Beat(rank=rank, pid=pid, at_s=at_s, steady=steady, step=3, phase="backward")


def test_nobody_is_blamed_in_time():
    assert find_silent([beat(0, 95.0), beat(1, 91.0)], 100.0, 10.0) is None


def test_the_first_to_fall_silent_is_blamed():
    silent = find_silent([beat(0, 89.0), beat(1, 80.0)], 100.0, 10.0)
    assert silent
    assert silent.rank == 1


def test_a_start_a_save_and_a_first_step_may_take_longer():
    long_ago = 100.0 - 10.0 * LONG_PHASE_FACTOR
    assert find_silent([beat(0, long_ago + 1, steady=False)], 100.0, 10.0) is None
    assert find_silent([beat(0, long_ago - 1, steady=False)], 100.0, 10.0)


def test_a_stopped_rank_is_blamed_before_one_that_waits_for_it():
    child = subprocess.Popen(["sleep", "60"])
    try:
        psutil.Process(child.pid).suspend()
        while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
            pass
        silent = find_silent([beat(0, 80.0), beat(1, 85.0, pid=child.pid)], 100.0, 10.0)
        assert silent
        assert silent.rank == 1
    finally:
        child.kill()
        child.wait()


def test_beats_are_read_back(tmp_path: Path):
    heart = Heartbeat(tmp_path, 3)
    heart.number.value = 7
    heart.tick("optimizer step")
    [first] = read_beats(tmp_path)
    assert (first.rank, first.step, first.phase, first.steady) == (3, 7, "optimizer step", False)
    heart.warm = True
    heart.tick("forward")
    [second] = read_beats(tmp_path)
    assert second.steady
    assert second.at_s >= first.at_s
    assert second.pid == os.getpid()


def test_only_old_unused_files_of_ours_are_swept(tmp_path: Path):
    old = time.time() - 600
    for name in ("nccl-used", "nccl-left", "nccl-young", "someones-data"):
        (tmp_path / name).write_bytes(b"x")
        if name != "nccl-young":
            os.utime(tmp_path / name, (old, old))
    hold = "import sys, time; file = open(sys.argv[1]); print('open', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "nccl-used")], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout
        holder.stdout.readline()
        assert sweep_shared_memory(tmp_path) == ["nccl-left"]
    finally:
        holder.kill()
        holder.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nccl-used", "nccl-young", "someones-data"]
