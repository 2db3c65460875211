"""Killed, or with a full disk, at every point of a save on either rank: nothing is lost or repeated."""

import json
import signal
from pathlib import Path

import pytest

from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import Run, traced_settings
from train.checkpoint.store import CheckpointStore
from train.failures import ExitCode
from train.faults import SAVE_POINTS
from train.rundir import read_lines

STEPS = 120
EVERY = 3
ON_RANK_0_ONLY = ("save.manifest", "save.rename", "save.latest", "save.end", "prune")
CASES = [(point, rank) for point in SAVE_POINTS for rank in (0, 1) if not (rank and point in ON_RANK_0_ONLY)]
"""Rank 1 takes no part in publishing."""


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    more = (f"checkpoint.every_steps={EVERY}", "checkpoint.keep_last=2")
    return (*traced_settings(module_runs, STEPS), *more)


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> Run:
    return finish(*settings, "name=unbroken", f"runs_dir={module_runs}")


def equals(run: Run, unbroken: Run) -> None:
    assert run.trace() == unbroken.trace()
    assert run.curve() == unbroken.curve()
    store = CheckpointStore(run.dir.checkpoints)
    assert all(verdict.usable for verdict in store.verdicts())
    assert not list(store.root.glob(".staging*")), "something half-made is left"
    assert (store.root / "latest").read_text() == f"step_{STEPS}\n"


def test_killed_at_every_point_of_a_save(settings: tuple[str, ...], unbroken: Run):
    """One run, killed once for each case; each time the ranks start again from what was committed.

    Once the newest checkpoint has lost a bit on its way to the disk: the one before is used.
    """
    flipped = 3
    before = EVERY * (2 * flipped + 1)
    faults = f"bitflip@save.written:rank=1:step={before}:restart={flipped};" + ";".join(
        f"kill9@{point}:rank={rank}:step={EVERY * (2 * number + 2)}:restart={number}"
        for number, (point, rank) in enumerate(CASES)
    )
    run = start(*settings, "name=killed", faults=faults)
    for point, rank in CASES:
        assert run.ended()[rank] == -signal.SIGKILL, f"{point} on rank {rank} was not reached"
        run.start_again(faults=faults)
    run.completed()
    [skipped] = [row for row in run.events if row["event"] == "skipped_checkpoints"]
    assert skipped["reason"].startswith(f"step_{before}: ")
    assert "was changed after the commit" in skipped["reason"]
    assert [row["step"] for row in run.events if row["event"] == "resumed"][flipped] == before - EVERY
    equals(run, unbroken)


def test_a_full_disk_at_every_point_of_a_save(settings: tuple[str, ...], unbroken: Run):
    """One run; every second save fails, the training goes on and says so."""
    points = [(point, rank) for point, rank in CASES if point != "save.end"]
    faults = ";".join(
        f"enospc@{point}:rank={rank}:step={EVERY * (2 * number + 2)}"
        for number, (point, rank) in enumerate(points)
    )
    run = finish(*settings, "name=full", faults=faults)
    failed = [row for row in run.events if row["event"] == "save_failed"]
    assert [row["step"] for row in failed] == [EVERY * (2 * n + 2) for n in range(len(points))]
    assert all("No space left on device" in row["reason"] and row["in_a_row"] == 1 for row in failed)
    equals(run, unbroken)


def test_three_failed_saves_in_a_row_end_the_run(settings: tuple[str, ...]):
    faults = ";".join(f"enospc@save.shard:rank=1:step={EVERY * number}" for number in (4, 5, 6))
    run = start(*settings, "name=no-room", faults=faults)
    failure = run.failed()
    assert failure.exit_code == ExitCode.SAVES_FAILED
    assert "3 saves in a row failed" in failure.message
    kept = {path.name for path in run.dir.checkpoints.glob("step_*")}
    assert kept == {f"step_{EVERY * 2}", f"step_{EVERY * 3}"}
    run.go_on()


def test_a_gradient_that_is_not_finite_changes_nothing_on_any_rank(settings: tuple[str, ...], unbroken: Run):
    """Skipped once; three in a row go back to the checkpoint before and leave these batches out."""
    faults = "nan@backward:rank=1:step=10;" + ";".join(f"nan@backward:rank=0:step={n}" for n in (20, 21, 22))
    run = finish(*settings, "name=not-finite", faults=faults)
    bad = [(row["step"], row["kind"]) for row in run.events if row["event"] == "bad_step"]
    assert bad == [(10, "skipped"), (20, "skipped"), (21, "skipped"), (22, "skipped")]
    [back] = [row for row in run.events if row["event"] == "rollback"]
    assert (back["step"], back["to_step"], back["skipped"]) == (22, 18, [20, 22])
    ids = dict(run.trace())
    before = dict(unbroken.trace())
    assert ids[19] == before[19]
    assert ids[20] == before[23], "the bad batches were taken again"
    assert run.losses()[:10] == unbroken.losses()[:10]
    assert run.losses()[10] != unbroken.losses()[10]
    assert len(ids) == STEPS
    refuse_all_but_json(run.dir.metrics)
    assert [row["step"] for row in read_lines(run.dir.metrics) if row["grad_norm"] is None][:1] == [10]


def refuse_all_but_json(path: Path) -> None:
    """Whatever the numbers: Python's own writer would leave NaN behind."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
