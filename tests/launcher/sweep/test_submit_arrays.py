"""How trials are handed over: in which arrays, with which scripts, and what a refusal leaves behind."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.records.jobs import Job
from launcher.records.points import Point
from launcher.records.sweeps import ArrayJob, SweepDir
from launcher.sweep import submit_arrays as module
from launcher.sweep.plan import SweepPlan
from launcher.sweep.submit_arrays import ask_the_queue, hand_over, settle_silent
from slurm.client import SlurmError
from slurm.executor import LocalRequest, SlurmRequest, SubmissionError
from slurm.states import JobRecord
from tests.launcher.planning.conftest import found
from tests.launcher.sweep.parts import SLURM, made_sweep, sweep_plan
from train.records.base import now


class Queue:
    """Takes arrays until it refuses them."""

    def __init__(self) -> None:
        self.largest: int | SlurmError = 1000
        self.scripts: list[str] = []
        self.local: list[tuple[LocalRequest, list[str], int]] = []
        self.refuse_from = 99
        self.tested: list[str] = []
        self.records: list[JobRecord] = []
        self.was_asked = False

    def largest_array(self) -> int:
        if isinstance(self.largest, SlurmError):
            raise self.largest
        return self.largest

    def submit_once(self, name: str, request: SlurmRequest, _function: Any, _root: str) -> str:
        if len(self.scripts) + 1 >= self.refuse_from:
            raise SubmissionError("limit of jobs")
        self.scripts.append(request.script)
        return str(1000 + len(self.scripts))

    def submit_local(
        self,
        request: LocalRequest,
        _function: Callable[..., None],
        _root: str,
        names: list[str],
        parallel: int,
    ) -> str:
        self.local.append((request, names, parallel))
        return str(os.getpid())

    def queue(self) -> list[JobRecord]:
        self.was_asked = True
        return self.records

    def asks_the_queue(self, script: str) -> list[Any]:
        self.tested.append(script)
        return []


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    for name in ("largest_array", "submit_once", "submit_local", "queue", "asks_the_queue"):
        monkeypatch.setattr(module, name, getattr(queue, name))
    return queue


def arrays_in(scripts: list[str]) -> list[str]:
    lines = [line for script in scripts for line in script.splitlines() if "--array=" in line]
    return [line.partition("--array=")[2].strip('"') for line in lines]


def rates(count: int) -> list[Point]:
    return [{"optim.lr": (number + 1) * 1e-3} for number in range(count)]


def made(tmp_path: Path, *arguments: Any, **settings: Any) -> tuple[SweepDir, SweepPlan]:
    plan = sweep_plan(tmp_path / "sweep", *arguments, **settings)
    return made_sweep(plan), plan


def test_nothing_chosen_starts_nothing(tmp_path: Path, queue: Queue):
    sweep, plan = made(tmp_path, rates(2), SLURM)
    queue.largest = SlurmError("not asked")
    assert hand_over(sweep, plan, []) == ([], None)
    assert sweep.arrays() == []


def test_arrays_are_no_larger_than_the_site_allows(tmp_path: Path, queue: Queue):
    sweep, plan = made(tmp_path, rates(5), SLURM, parallel=1)
    queue.largest = 2
    done, problem = hand_over(sweep, plan, plan.trials)
    names = [trial.name for trial in plan.trials]
    assert problem is None
    assert done == [("1001", names[:2]), ("1002", names[2:4]), ("1003", names[4:])]
    assert arrays_in(queue.scripts) == ["0-1%1", "0-1%1", "0-0%1"]
    arrays = sweep.arrays()
    assert [array.trials for array in arrays] == [part for _, part in done]
    assert {name: job.job_id for name, job in sweep.array_jobs().items()} == {
        array.name: job_id for array, (job_id, _) in zip(arrays, done, strict=True)
    }
    assert len({array.name for array in arrays}) == 3


def test_trials_of_other_resources_go_into_another_array(tmp_path: Path, queue: Queue):
    points = [{"optim.lr": rate, "slurm.time_min": time} for rate in (1e-3, 2e-3) for time in (5, 9)]
    sweep, plan = made(tmp_path, points, SLURM)
    done, _ = hand_over(sweep, plan, plan.trials[1:])
    assert [len(part) for _, part in done] == [2, 1]


def test_a_refusal_leaves_the_rest_for_the_next_submit(tmp_path: Path, queue: Queue):
    sweep, plan = made(tmp_path, rates(3), SLURM)
    queue.largest, queue.refuse_from = 1, 2
    done, problem = hand_over(sweep, plan, plan.trials)
    assert [job_id for job_id, _ in done] == ["1001"]
    assert problem
    assert (problem.code, problem.field) == ("slurm.refused", "slurm")
    assert sweep.lost() == {sweep.arrays()[1].name}
    assert len(sweep.arrays()) == 2


def test_a_queue_that_does_not_answer_takes_none(tmp_path: Path, queue: Queue):
    sweep, plan = made(tmp_path, rates(3), SLURM)
    queue.largest = SlurmError("no contact")
    done, problem = hand_over(sweep, plan, plan.trials)
    assert done == []
    assert problem
    assert problem.code == "slurm.refused"
    assert sweep.arrays() == []


def test_with_halving_each_rung_has_a_smaller_array_after_the_one_before(tmp_path: Path, queue: Queue):
    points = [{**point, "seed": seed} for point in rates(4) for seed in (0, 1)]
    sweep, plan = made(tmp_path, points, SLURM, halving={"rungs": [2, 4], "keep": 0.5})
    hand_over(sweep, plan, plan.trials)
    arrays = sweep.arrays()
    assert [(array.rung, array.places) for array in arrays] == [(0, 8), (1, 4), (2, 2)]
    assert {array.chain for array in arrays} == {arrays[0].name}
    assert arrays_in(queue.scripts) == ["0-7", "0-3", "0-1"]
    for script, before in zip(queue.scripts, (None, "1001", "1002"), strict=True):
        assert ("--dependency" in script) == (before is not None)
        assert before is None or before in script


def test_on_this_machine_one_process_starts_all(tmp_path: Path, queue: Queue):
    sweep, plan = made(tmp_path, rates(3), {"slurm.time_min": 10}, parallel=2)
    done, problem = hand_over(sweep, plan, plan.trials[1:])
    [array] = sweep.arrays()
    assert (done, problem) == ([(str(os.getpid()), array.trials)], None)
    assert array.trials == [trial.name for trial in plan.trials[1:]]
    [(request, names, parallel)] = queue.local
    assert (names, parallel, request.time_min) == ([array.name], 2, 20)
    assert sweep.array_jobs()[array.name].is_here


def test_sbatch_looks_at_one_script_for_each_kind_of_resources(tmp_path: Path, queue: Queue):
    points = [{"optim.lr": rate, "slurm.time_min": time} for rate in (1e-3, 2e-3, 3e-3) for time in (5, 9)]
    assert list(ask_the_queue(sweep_plan(tmp_path, points))) == []
    assert queue.tested == []
    assert list(ask_the_queue(sweep_plan(tmp_path, points, SLURM))) == []
    assert arrays_in(queue.tested) == ["0-2", "0-2"]


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (3, []),
        (2, [("sweep.halving", "sweep.halving")]),
        (SlurmError("no contact"), [("slurm.refused", "slurm")]),
    ],
)
def test_trials_that_are_compared_fit_into_one_array(
    tmp_path: Path, queue: Queue, largest: int | SlurmError, expected: list[tuple[str, str]]
):
    queue.largest = largest
    assert found(ask_the_queue(sweep_plan(tmp_path, rates(3), SLURM))) == []
    plan = sweep_plan(tmp_path, rates(3), SLURM, halving={"rungs": [2]})
    assert found(ask_the_queue(plan)) == expected


def test_arrays_without_an_answer_are_found_in_the_queue_or_lost(tmp_path: Path, queue: Queue):
    sweep, _ = made(tmp_path, rates(1), SLURM)
    for name in ("known", "silent", "gone"):
        sweep.record_array(
            ArrayJob(time=now(), executor="slurm", name=name, trials=[], rung=None, chain=None, places=1)
        )
    sweep.record_job(Job(job_id="5", name="known"))
    queue.records = [
        JobRecord(job_id=job_id, state="PENDING", name=name, start=None, nodes="", reason="")
        for job_id, name in (("5_0", "known"), ("6_[0-3]", "silent"), ("6_4", "silent"), ("8", "another"))
    ]
    settle_silent(sweep)
    assert {name: job.job_id for name, job in sweep.array_jobs().items()} == {"known": "5", "silent": "6"}
    assert sweep.lost() == {"gone"}


def test_slices_of_this_machine_are_lost_without_asking_a_queue(tmp_path: Path, queue: Queue):
    sweep, _ = made(tmp_path, rates(1))
    settle_silent(sweep)
    sweep.record_array(
        ArrayJob(time=now(), executor="local", name="a", trials=[], rung=None, chain=None, places=1)
    )
    settle_silent(sweep)
    assert sweep.lost() == {"a"}
    assert not queue.was_asked
