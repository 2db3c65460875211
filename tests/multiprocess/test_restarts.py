"""What dies on a node is started again in place: a rank, and the process that starts the ranks."""

import signal
from pathlib import Path
from typing import Any

import psutil

from tests.multiprocess.runs import Run, start, traced_settings
from train.rundir import read_lines


def starts(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.events if row["event"] == "start"]


def server(run: Run) -> psutil.Process:
    """The process that starts the ranks: the agent's only child."""
    [found] = run.agent().children()
    return found


def after(run: Run, number: int) -> None:
    """Wait until the ranks make steps after so many starts in place."""
    run._wait(lambda: len(starts(run)) > number, f"start {number} in place")


def settings(folder: Path) -> tuple[str, ...]:
    return (*traced_settings(folder, 5000), "checkpoint.every_steps=10")


def assert_no_step_twice_with_other_samples(run: Run) -> None:
    seen: dict[int, Any] = {}
    for row in read_lines(run.dir.trace):
        assert seen.setdefault(row["step"], row["sample_ids"]) == row["sample_ids"]
    assert sorted(seen) == list(range(1, max(seen) + 1))


def test_a_killed_rank_and_a_killed_server_are_started_again_in_place(runs: Path, tmp_path: Path) -> None:
    run = start(*settings(tmp_path))
    run.wait_for_step(12)
    first, ranks = server(run), run.ranks()
    assert [rank.ppid() for rank in ranks] == [first.pid, first.pid]
    libraries = [file.path for file in run.agent().memory_maps()]
    assert libraries
    assert not [path for path in libraries if "libtorch" in path], "torch is imported once per node"
    ranks[1].kill()
    after(run, 1)
    assert server(run).pid == first.pid
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]

    ranks = run.ranks()
    first.kill()
    after(run, 2)
    assert server(run).pid != first.pid
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]

    run.stop(signal.SIGTERM, rank=1)
    by_rank, by_server = (row for row in run.events if row["event"] == "crashed")
    assert (by_rank["reason"], by_rank["failure_class"]) == ("rank 1 was killed by SIGKILL", "killed")
    assert by_server["reason"].startswith("the process that starts the ranks was killed by SIGKILL on ")
    assert (by_server["failure_class"], by_server["then"]) == ("killed", "restart")
    assert {row["start_method"] for row in run.events if row["event"] == "started"} == {"fork"}
    with_imports, without, again = (row["seconds"]["imports"] for row in starts(run))
    assert without < min(with_imports, again) / 2, "imports are made, and counted, once per server"
    assert run.status.attempt == 1
    assert_no_step_twice_with_other_samples(run)


def test_ranks_that_are_not_forked_are_started_again_too(runs: Path, tmp_path: Path) -> None:
    run = start(*settings(tmp_path), "train.start_method=spawn", "hardware.gpus_per_node=1")
    run.wait_for_step(12)
    run.ranks()[0].kill()
    after(run, 1)
    run.stop(signal.SIGUSR2)
    [crash] = [row for row in run.events if row["event"] == "crashed"]
    assert crash["reason"] == "rank 0 was killed by SIGKILL"
    assert {row["start_method"] for row in run.events if row["event"] == "started"} == {"spawn"}
    assert_no_step_twice_with_other_samples(run)
