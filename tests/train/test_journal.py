"""The journal: every kind comes back as it was written, old ones are read, and nothing unknown passes."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from launcher.records.sweep_journal import (
    SWEEP_KINDS,
    RungDecided,
    SweepCancelled,
    SweepRestarted,
    TrialArchived,
)
from train.journal.events import (
    AskedToStop,
    AttemptBegun,
    BadStep,
    Cancelled,
    Changed,
    CheckpointSaved,
    Compiled,
    Crashed,
    DataPrepared,
    EndedEarly,
    FaultsInjected,
    GaveUp,
    KernelsChosen,
    PhaseBegun,
    Preempted,
    Profiled,
    ProfileFailed,
    Requeued,
    RequeueFailed,
    RolledBack,
    RunFinished,
    SaveFailed,
    ShortNotice,
    SkippedCheckpoints,
    Started,
    StartTimed,
    Submitted,
    Superseded,
    TrackingFailed,
    Trained,
    TrainingResumed,
    Validated,
)
from train.journal.parts import ConvertedFrom, KernelUse
from train.journal.phases import Phase
from train.journal.reading import KINDS, read_journal
from train.records.base import Event, RecordError, RunEvent, event_row
from train.records.kinds import Kinds
from train.rundir import RunDir

RUN_EVENTS: dict[str, RunEvent] = {
    "submitted": Submitted(executor="slurm", name="run.1a2b", host="login1"),
    "changed": Changed(keys=["optim.lr: 1 -> 2"], insisted=["optim.lr"]),
    "cancelled": Cancelled(job_id="7"),
    "superseded": Superseded(job_id="7"),
    "asked_to_stop": AskedToStop(reason="SIGTERM", pid=99),
    "requeued": Requeued(job_id="7", without=["n3"]),
    "requeue_failed": RequeueFailed(job_id="7", reason="held"),
    "gave_up": GaveUp(reason="3 attempts"),
    "attempt": AttemptBegun(attempt=1, job_id="7", nodes="n[1-2]"),
    "faults": FaultsInjected(attempt=1, wanted="kill9@step"),
    "phase": PhaseBegun(attempt=1, phase=Phase.LOAD_MODEL),
    "kernels": KernelsChosen(attempt=1, engaged={"rope": KernelUse(name="torch", reason="no GPU")}),
    "started": Started(attempt=1, world_size=2, total_steps=40, restart=1),
    "data": DataPrepared(
        attempt=1, rows=9, overlong="split", overlong_rows=1, documents=9, sequences=4, tokens=90, fill=0.9
    ),
    "skipped_checkpoints": SkippedCheckpoints(attempt=1, reason="step_3: torn; step_2: torn"),
    "resumed": TrainingResumed(
        attempt=2,
        step=9,
        converted_from=ConvertedFrom(world_size=2, zero_stage=3, precision="bf16"),
    ),
    "start": StartTimed(
        attempt=1, restart=0, seconds={Phase.IMPORTS: 4.5, Phase.FIRST_STEP: 1.0}, total_s=5.5
    ),
    "compiled": Compiled(
        attempt=1,
        step=1,
        layers=2,
        graphs=1,
        graph_breaks={"print": 1},
        left_to_python={"try": 2},
        seconds=3.5,
    ),
    "validation": Validated(
        attempt=1, step=9, best=True, rows=4, tokens=40, loss=1.5, perplexity=4.5, accuracy=0.5, macro_f1=0.4
    ),
    "checkpoint": CheckpointSaved(attempt=1, step=9, bytes=10, seconds=0.5, stall_s=0.1, dropped=[3]),
    "save_failed": SaveFailed(attempt=1, step=9, reason="No space left on device", in_a_row=1),
    "short_notice": ShortNotice(attempt=1, needed_s=90.5, notice_s=60),
    "bad_step": BadStep(attempt=1, step=9, kind="spike", reason="loss 9.0"),
    "rollback": RolledBack(attempt=1, step=9, to_step=6, skipped=(7, 9), reason="loss 9.0"),
    "tracking": TrackingFailed(attempt=1, reason="W&B cannot be reached"),
    "profile": Profiled(attempt=1, step=5, file="profile/a.json.gz"),
    "profile_failed": ProfileFailed(attempt=1, reason="No space left on device"),
    "trained": Trained(
        attempt=1,
        step=40,
        time_data_s=0.1,
        time_forward_s=0.2,
        time_backward_s=0.3,
        time_step_s=0.4,
        time_save_s=0.5,
        time_evaluate_s=0.6,
    ),
    "ended_early": EndedEarly(attempt=1, step=30, reason="eval.patience"),
    "preempted": Preempted(attempt=1, step=9, reason="SIGUSR2"),
    "crashed": Crashed(
        attempt=1, failure_class="hang", rank=1, host="n2", reason="rank 1 was silent", then="restart"
    ),
    "finished": RunFinished(attempt=1, step=40),
}
"""One event of every kind, all its fields set. The keys are an API: nobody may change them."""
SWEEP_EVENTS: dict[str, Event] = {
    "halving": RungDecided(chain="s.1", rung=0, step=3, kept=["a"], dropped={"b": "loss 2"}),
    "begun_anew": SweepRestarted(),
    "set_aside": TrialArchived(trial="a", to=".a.2026"),
    "cancelled": SweepCancelled(waiting_only=True),
}
EVERY = [(KINDS, kind, event) for kind, event in RUN_EVENTS.items()] + [
    (SWEEP_KINDS, kind, event) for kind, event in SWEEP_EVENTS.items()
]
PHASES = [
    "imports",
    "prepare model",
    "prepare data",
    "process group",
    "load model",
    "engine",
    "tracking",
    "restore",
    "assess base",
    "first step",
    "train",
    "save",
    "assess tuned",
    "export",
]

OLD = """
{"time": 1.0, "event": "submitted", "executor": "local", "host": "vm"}
{"time": 1.1, "event": "asked_to_stop", "by": "SIGTERM", "pid": 12}
{"time": 1.2, "event": "attempt", "attempt": 1, "job_id": "4712", "nodes": null}
{"time": 1.3, "event": "kernels", "attempt": 1, "engaged": {"rope": {"name": "torch", "why": "no GPU"}}}
{"time": 1.4, "event": "started", "attempt": 1, "world_size": 2, "total_steps": 20}
{"time": 1.5, "event": "skipped_checkpoints", "attempt": 1, "why": ["step_3: torn", "step_2: gone"]}
{"time": 1.6, "event": "resumed", "attempt": 1, "step": 1}
{"time": 1.7, "event": "checkpoint", "attempt": 1, "step": 4, "bytes": 3339204, "seconds": 0.082}
{"time": 1.8, "event": "save_failed", "attempt": 1, "step": 8, "why": "No space left", "in_a_row": 1}
{"time": 1.9, "event": "tracking", "attempt": 1, "why": "W&B cannot be reached"}
{"time": 2.0, "event": "profile_failed", "attempt": 1, "why": "No space left on device"}
{"time": 2.1, "event": "validation", "attempt": 1, "step": 9, "best": true, "rows": 6, "tokens": 8, "loss": 6}
{"time": 2.2, "event": "phase", "attempt": 1, "phase": "load best step 12"}
{"time": 2.3, "event": "finished", "attempt": 1, "step": 20}
""".lstrip()
"""Lines as earlier versions wrote them."""


def line(**changes: Any) -> dict[str, Any]:
    row = {"time": 1.0, "event": "preempted", "attempt": 1, "step": 9, "reason": "SIGTERM", **changes}
    return {key: value for key, value in row.items() if value is not None}


def journal(tmp_path: Path, text: str) -> RunDir:
    run = RunDir(tmp_path)
    run.events.write_text(text)
    return run


@pytest.mark.parametrize(("kinds", "kind", "event"), EVERY)
def test_every_kind_is_written_with_all_its_fields_and_comes_back(kinds: Kinds[Any], kind: str, event: Event):
    row = json.loads(json.dumps(event_row(event)))
    assert row["event"] == kind
    assert row.keys() - {"event"} == {entry.name for entry in fields(event)}
    assert kinds.parse(row, "here") == event


def test_the_table_above_holds_every_kind():
    assert RUN_EVENTS.keys() == KINDS.by_name.keys()
    assert SWEEP_EVENTS.keys() == SWEEP_KINDS.by_name.keys()


def test_phases_keep_their_names():
    """A journal holds the value: another one would turn what was written before into something unknown."""
    assert [phase.value for phase in Phase] == PHASES


def test_a_cause_is_called_reason_in_every_kind():
    names = {entry.name for cls in KINDS.by_name.values() for entry in fields(cls)}
    assert not names & {"why", "by", "cause"}


def test_journals_of_earlier_versions_are_read(tmp_path: Path):
    events = read_journal(journal(tmp_path, OLD).events)
    assert [event.event for event in events] == [json.loads(text)["event"] for text in OLD.splitlines()]
    by_kind = {type(event): event for event in events}
    reasons = {kind.event: event.reason for kind, event in by_kind.items() if hasattr(event, "reason")}
    assert reasons == {
        "asked_to_stop": "SIGTERM",
        "skipped_checkpoints": "step_3: torn; step_2: gone",
        "save_failed": "No space left",
        "tracking": "W&B cannot be reached",
        "profile_failed": "No space left on device",
    }
    assert PhaseBegun(time=2.2, attempt=1, phase=Phase.SAVE) in events
    assert Started(time=1.4, attempt=1, world_size=2, total_steps=20, restart=0) in events
    assert KernelUse(name="torch", reason="no GPU") in [
        use for event in events if isinstance(event, KernelsChosen) for use in event.engaged.values()
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            line(event="premepted"),
            "events.jsonl:2: unknown event kind 'premepted'; known kinds: asked_to_stop, ",
        ),
        (line(event=None), "unknown event kind None"),
        (line(step=None), "events.jsonl:2: event 'preempted': missing field step"),
        (line(time=None), "missing field time"),
        (line(where="n1"), "unknown field 'where'; known fields: time, attempt, step, reason"),
        (line(why="SIGTERM"), "unknown field 'why'"),
        (line(step="9"), "step: invalid value '9'; expected int"),
        (line(step=True), "step: invalid value True; expected int"),
        (
            {"time": 1.0, "event": "phase", "attempt": 1, "phase": "trian"},
            "event 'phase': phase: unknown phase 'trian'; known: imports, prepare model, ",
        ),
        (
            {**event_row(RUN_EVENTS["crashed"]), "then": "retry"},
            "then: unknown value 'retry'; allowed: restart, requeue, stop",
        ),
        (
            {**event_row(RUN_EVENTS["rollback"]), "skipped": [7]},
            "skipped: invalid value [7]; expected a list of 2 values",
        ),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, row: dict[str, Any], message: str):
    run = journal(tmp_path, json.dumps(event_row(RUN_EVENTS["gave_up"])) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(RecordError) as refused:
        read_journal(run.events)
    assert message in str(refused.value)
    assert str(run.events) in str(refused.value)


def test_two_kinds_cannot_have_one_name():
    with pytest.raises(ValueError, match="event kind 'cancelled' is defined twice"):
        Kinds([Cancelled, SweepCancelled])


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path):
    run = journal(tmp_path, '{"time": 1.0, "event": "gave_up", "reason": "a"}\n{"time": 2.0, "event": "gave')
    assert [event.event for event in read_journal(run.events)] == ["gave_up"]
    run.log(GaveUp(reason="b"))
    assert [event.reason for event in read_journal(run.events) if isinstance(event, GaveUp)] == ["a", "b"]


def test_a_run_that_has_written_nothing_has_an_empty_journal(tmp_path: Path):
    assert read_journal(RunDir(tmp_path).events) == []


def test_the_kinds_are_documented():
    rows = KINDS.table()
    assert ("gave_up", "reason", "Too many attempts in a row saved no checkpoint; the run failed.") in rows
    assert all(meaning.endswith(".") for _, _, meaning in [*rows, *SWEEP_KINDS.table()])
