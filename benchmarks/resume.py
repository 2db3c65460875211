"""Measure the time of a resume in Shardline and Hugging Face's Trainer, by the number of previous steps.

    python -m benchmarks.resume [--steps 1000 100000] [--repeats 3]

Both train the same model on the same data over two ranks for ten steps, save a checkpoint and stop. Their
files are then changed to those of a longer run: Shardline's checkpoint, metrics and journal, and the step in
the Trainer's state, from which it computes its position in the data. The time of a resume is from the start
of the ranks, after their imports, to the end of the first step. Arms and step numbers alternate.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import shardline, trainer
from benchmarks.arms.task import Task, cached_in, write_documents, write_model
from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread
from train.checkpoint.manifest import MANIFEST, record
from train.checkpoint.progress import PROGRESS, read_progress
from train.checkpoint.store import CheckpointStore
from train.journal.events import CheckpointSaved, Started, StartTimed, TrainingResumed
from train.journal.phases import Phase
from train.journal.reading import newest, of_kind, read_journal
from train.metrics import read_metrics
from train.records.base import event_row, to_row
from train.rundir import RunDir, write_json

TITLE = "Cost of a resume"
NOTES = (
    "The time of a resume does not depend on the length of the run, because the position in the data is"
    " computed. *Restoring* is the part that reads the journal, verifies the checkpoints with all hashes,"
    " computes the order of the rows and loads the states. The time for importing torch, transformers and"
    " deepspeed is not included for either. With W&B offline, rank 0 also looks for steps that are missing"
    " in W&B's files, which takes seconds for 100,000 logged steps."
)
STEPS_BEFORE_SAVE = 10
STEPS_PER_CHECKPOINT = 100
"""Number of steps between two checkpoints in the journal of a long run."""
LENGTH, PER_RANK, DOCUMENTS = 128, 4, 4000
GLOBAL_BATCH = 2 * PER_RANK
_COMPARED_AT = 1000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--steps", type=at_least(STEPS_BEFORE_SAVE + 1), nargs="+", default=[_COMPARED_AT, 100_000]
    )
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both arms at all step numbers, alternating."""
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        task = _task(Path(name))
        ours = {step: _run_at(step, task) for step in options.steps}
        theirs = _trainer_checkpoints(task, options.steps)
        rows: dict[int, dict[str, list[float]]] = {
            step: {"ours": [], "restoring": [], "theirs": []} for step in options.steps
        }
        for repeat in range(options.repeats):
            for step, seconds in rows.items():
                total_s, restoring_s = _resume(ours[step], step, attempt=2 + repeat)
                seconds["ours"].append(total_s)
                seconds["restoring"].append(restoring_s)
                longer = replace(task, steps=step + 1000)
                seconds["theirs"].append(trainer.resume(longer, theirs[step]).first_step_s)
    ratios = []
    if _COMPARED_AT in rows:
        at = {kind: float(np.median(values)) for kind, values in rows[_COMPARED_AT].items()}
        ratios.append(
            Ratio(
                what="resume to first step at step 1,000 vs. HF resume_from_checkpoint",
                value=at["ours"] / at["theirs"],
                sense="at most",
                target=0.5,
            )
        )
    return {
        "precision": task.precision,
        "rows": [{"step": step, **seconds} for step, seconds in rows.items()],
        "ratios": as_json(ratios),
    }


def _task(folder: Path) -> Task:
    return Task(
        folder=folder,
        model=write_model(folder / "model", length=LENGTH),
        train=write_documents(folder / "train.jsonl", np.full(DOCUMENTS, LENGTH), seed=1),
        held_out=write_documents(folder / "held_out.jsonl", np.full(8, LENGTH), seed=2),
        length=LENGTH,
        micro_batch_size=PER_RANK,
        steps=STEPS_BEFORE_SAVE,
        stage=2,
    )


def _run_at(step: int, task: Task) -> RunDir:
    """Return a stopped run whose files are those of a run with `step` steps."""
    run = shardline.plan_run(
        replace(task, steps=10 * step + 1000), "data.validation=null", "tracking.wandb=disabled"
    )
    run.ask_to_pause(STEPS_BEFORE_SAVE)
    shardline.start_ranks(run, task.ranks, attempt=1)
    _move_checkpoint(run, step)
    row = read_metrics(run)[0]
    _rewrite(run.metrics, (to_row(replace(row, step=made)) for made in range(1, step + 1)))
    events = read_journal(run.events)
    saved = of_kind(events, CheckpointSaved)[0]
    steps = [*range(STEPS_PER_CHECKPOINT, step, STEPS_PER_CHECKPOINT), step]
    saves = [replace(saved, step=made) for made in steps]
    _rewrite(run.events, (event_row(event) for event in [*events[:-1], *saves, events[-1]]))
    return run


def _move_checkpoint(run: RunDir, step: int) -> None:
    """Commit the states of the newest checkpoint as those of another step."""
    store = CheckpointStore(run.checkpoints)
    verdict = store.verdicts()[0]
    assert verdict.manifest
    samples = step * GLOBAL_BATCH
    staging = store.stage(step)
    shutil.copytree(verdict.path, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    write_json(staging / PROGRESS, replace(read_progress(verdict.path), step=step, samples=samples))
    files = {**verdict.manifest.files, PROGRESS: record(staging / PROGRESS)}
    if verdict.manifest.step != step:
        shutil.rmtree(verdict.path)
    update = {"step": step, "samples": samples, "files": files}
    store.commit(staging, verdict.manifest.model_copy(update=update))


def _rewrite(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _resume(run: RunDir, step: int, attempt: int) -> tuple[float, float]:
    """Resume for one step and delete its checkpoint; return the seconds in total and those of restoring."""
    run.ask_to_pause(step + 1)
    shardline.start_ranks(run, 2, attempt=attempt)
    events = read_journal(run.events)
    resumed, started, start = (newest(events, kind) for kind in (TrainingResumed, Started, StartTimed))
    assert isinstance(resumed, TrainingResumed)
    assert isinstance(started, Started)
    assert isinstance(start, StartTimed)
    assert (resumed.attempt, resumed.step) == (attempt, step)
    made = next(row for row in read_metrics(run) if row.step == step + 1)
    shutil.rmtree(CheckpointStore(run.checkpoints).path(step + 1))
    _rewrite(run.metrics, (to_row(row) for row in read_metrics(run) if row.step <= step))
    return start.total_s - start.seconds[Phase.IMPORTS], made.time - started.time


def _trainer_checkpoints(task: Task, steps: list[int]) -> dict[int, Path]:
    saved = trainer.save_checkpoint(task)
    found = {}
    for step in steps:
        found[step] = saved.with_name(f"checkpoint-at-{step}")
        shutil.copytree(saved, found[step])
        state_file = found[step] / "trainer_state.json"
        state = json.loads(state_file.read_text())
        epoch = step / (DOCUMENTS / GLOBAL_BATCH)
        state_file.write_text(json.dumps(state | {"global_step": step, "epoch": epoch}))
    return found


def table(result: dict[str, Any]) -> str:
    """Return the table of seconds by step number."""
    lines = [
        f"8.8M parameters, {result['precision']}, 2 ranks",
        "",
        "| previous steps | Shardline, s, median (range) | of which restoring | HF Trainer |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['step']:,} | {spread(row['ours'])} | {spread(row['restoring'])} | {spread(row['theirs'])} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])
