"""What a run measured of itself: the split of a step, memory, the start, a profile, the use of its time."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import Run, call
from train.rundir import read_lines

STEPS = 12
PARTS = ("time_data_s", "time_forward_s", "time_backward_s", "time_step_s")


@pytest.fixture(scope="module")
def run(module_runs: Path) -> Run:
    """Logged every second step, saved and validated in between, steps 3 and 4 profiled."""
    return finish(
        "experiment=smoke",
        f"runs_dir={module_runs}",
        f"train.max_steps={STEPS}",
        "train.log_every_steps=2",
        "train.profile_steps=[3,4]",
        "checkpoint.every_steps=5",
        "eval.every_steps=5",
        "hardware.peak_tflops_bf16=0.1",
    )


def test_rows_keep_their_fields_and_gain_the_new_ones(run: Run):
    rows = list(read_lines(run.dir.metrics))
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    before = ["attempt", "step", "loss", "lr", "tokens", "samples", "grad_norm", "tokens_per_s", "time"]
    for row in rows:
        assert set(row) - {"time_save_s", "time_evaluate_s"} == {
            *before,
            *PARTS,
            "trained_tokens_per_s",
            "mfu",
            "memory_gb",
            "peak_memory_gb",
        }
        assert 0 < row["trained_tokens_per_s"] < row["tokens_per_s"]
        assert row["mfu"] > 0
        assert 0.1 < row["memory_gb"] <= row["peak_memory_gb"]
        assert all(row[part] > 0 for part in PARTS)


def test_the_split_adds_up_to_the_time_of_the_steps(run: Run):
    """What is left of the time between two rows is the loop's own: never less than nothing."""
    rows = list(read_lines(run.dir.metrics))
    for before, row in pairwise(rows):
        tokens = row["tokens"] - before["tokens"]
        in_steps = sum(row[part] for part in PARTS)
        assert in_steps == pytest.approx(tokens / row["tokens_per_s"], rel=1e-3, abs=1e-4)
        pauses = row.get("time_save_s", 0.0) + row.get("time_evaluate_s", 0.0)
        assert in_steps + pauses <= row["time"] - before["time"] + 0.002


def test_saves_and_evaluations_are_in_the_row_after_them(run: Run):
    rows = {row["step"]: row for row in read_lines(run.dir.metrics)}
    assert {step for step, row in rows.items() if "time_evaluate_s" in row} == {6, 12}
    assert {step for step, row in rows.items() if "time_save_s" in row} == {6, 12}
    [trained] = [row for row in run.events if row["event"] == "trained"]
    assert trained["step"] == STEPS
    assert trained["time_evaluate_s"] > 0, "the last validation, which no row of metrics holds"


def test_the_start_is_journaled_phase_by_phase(run: Run):
    [start] = [row for row in run.events if row["event"] == "start"]
    phases = ["imports", "prepare model", "prepare data", "process group", "load model", "engine", "tracking"]
    assert list(start["seconds"]) == [*phases, "restore", "assess base", "first step"]
    begun = next(row["time"] for row in run.events if row["event"] == "attempt")
    assert start["total_s"] <= start["time"] - begun + 0.02
    assert "start to first step" in (run.dir.attempt_logs(1) / "rank_0.log").read_text()
    slowest = max(start["seconds"], key=start["seconds"].__getitem__)
    assert f"after {start['total_s']:.1f} s ({slowest} " in call("status", str(run.dir.root)).stdout


def test_the_use_of_the_time_is_in_the_result_and_shown(run: Run):
    shares = run.result["goodput"]
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
    assert min(shares[use] for use in ("steps", "start", "save", "evaluate")) > 0
    in_rows = sum(row[part] for row in read_lines(run.dir.metrics) for part in PARTS)
    assert shares["steps"] * run.result["rank_hours"] * 3600 / 2 == pytest.approx(in_rows, rel=0.05)
    assert "% training" in call("results", str(run.dir.root)).stdout


def test_the_profile_is_a_trace_of_the_steps_that_were_named(run: Run):
    [path] = run.dir.profile.iterdir()
    assert path.name == "attempt_1_steps_3_4.json.gz"
    with gzip.open(path) as file:
        names = {event.get("name", "") for event in json.load(file)["traceEvents"]}
    assert any(name.startswith("aten::") for name in names)
    [told] = [row for row in run.events if row["event"] == "profile"]
    assert told["file"] == f"profile/{path.name}"


def test_a_profile_beyond_a_length_in_tokens_is_refused_once_that_is_known(runs: Path):
    failure = start(
        "experiment=smoke",
        "hardware.gpus_per_node=1",
        "train.max_steps=null",
        "train.max_tokens=3000",
        "train.profile_steps=[5,99]",
    ).failed()
    assert failure.failure_class == "user"
    assert "train.profile_steps=[5, 99] is beyond the last step" in failure.message
