"""Numbers for people, and which journal entries are lines of `logs -f` or of a report."""

from typing import Any

import pytest

from launcher.words import about_the_compilation, about_the_data, counted, duration, news, note
from train.journal import events as kinds
from train.journal.parts import DataReport
from train.records.base import RunEvent


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3600, "60 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (172799, "48 h"),
        (172800, "2 d"),
        (1e6, "11.6 d"),
    ],
)
def test_durations_change_their_unit_at_two(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_one_is_singular(number: int, text: str):
    assert counted(number, "run") == text


def report(**more: Any) -> DataReport:
    values: dict[str, Any] = {
        "rows": 100,
        "tokens": 1000,
        "overlong": "truncate",
        "overlong_rows": 0,
        "documents": 100,
        "sequences": 100,
        "fill": None,
    }
    return DataReport(**{**values, **more})


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (None, []),
        (report(), []),
        (report(overlong_rows=7), ["7 of 100", "truncated"]),
        (report(overlong_rows=7, overlong="cut"), ["7 of 100", "truncated"]),
        (report(overlong_rows=7, overlong="split"), ["7 of 100", "split"]),
        (report(overlong_rows=7, overlong="drop"), ["7 of 100", "dropped"]),
        (report(sequences=12, fill=0.987), ["100 documents", "12", "98.7%"]),
        (report(overlong_rows=7, sequences=12, fill=0.987), ["7 of 100", "98.7%"]),
    ],
)
def test_only_rows_that_were_changed_are_worth_a_line(data: DataReport | None, parts: list[str]):
    text = about_the_data(data)
    assert (text is None) == (not parts)
    assert all(part in str(text) for part in parts)


def compiled(**breaks: int) -> kinds.Compiled:
    return kinds.Compiled(
        attempt=1, step=3, layers=12, graphs=2, graph_breaks=breaks, left_to_python={}, seconds=4.56
    )


def test_breaks_of_the_compiled_graph_are_counted():
    whole = about_the_compilation(compiled())
    assert all(part in whole for part in ("12", "step 3", "4.6", "2 graphs"))
    assert "5 x" in about_the_compilation(compiled(reason=5))


def validated(**more: Any) -> kinds.Validated:
    return kinds.Validated(
        **{"attempt": 1, "step": 5, "best": False, "rows": 4, "tokens": 8, "loss": 1.25, **more}
    )


CRASHED = {"attempt": 1, "failure_class": "killed", "rank": 1, "host": "n1", "reason": "rank 1 was killed"}


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        (validated(), ["step 5", "1.250"]),
        (validated(accuracy=0.5, macro_f1=0.25), ["0.500", "0.250"]),
        (
            kinds.CheckpointSaved(attempt=1, step=5, bytes=2_500_000, seconds=1.25),
            ["step 5", "2.5 MB", "1.2 s"],
        ),
        (kinds.Crashed(**CRASHED, then="restart"), ["rank 1 was killed"]),
        (compiled(), ["12 layers"]),
        (kinds.Requeued(job_id="7", without=[]), []),
        (kinds.Requeued(job_id="7", without=["n1", "n2"]), ["n1, n2"]),
        (kinds.TrainingResumed(attempt=1, step=9), ["step 9"]),
        (kinds.Preempted(attempt=1, step=9, reason="SIGTERM"), ["SIGTERM", "step 9"]),
        (kinds.SkippedCheckpoints(attempt=1, reason="step_3: damaged"), ["step_3: damaged"]),
        (kinds.AskedToStop(reason="SIGUSR2", pid=1), ["SIGUSR2"]),
        (kinds.Cancelled(job_id="7"), []),
        (kinds.AttemptBegun(attempt=4, job_id="7", nodes=None), ["4"]),
        (kinds.GaveUp(reason="no checkpoint"), ["no checkpoint"]),
        (kinds.TrackingFailed(attempt=1, reason="offline"), ["offline"]),
        (kinds.RequeueFailed(job_id="7", reason="refused"), ["refused"]),
    ],
)
def test_a_line_of_the_log_has_what_the_event_has(event: RunEvent, parts: list[str]):
    text = news(event)
    assert text
    assert all(part in text for part in parts)


def test_the_best_validation_and_each_ending_read_differently():
    assert news(validated(best=True)) != news(validated())
    ways: tuple[Any, ...] = ("restart", "requeue", "stop")
    assert len({news(kinds.Crashed(**CRASHED, then=then)) for then in ways}) == 3


@pytest.mark.parametrize(
    ("event", "in_log", "in_report"),
    [
        (kinds.Superseded(job_id="7"), False, False),
        (kinds.FaultsInjected(attempt=1, wanted="x"), False, False),
        (kinds.SaveFailed(attempt=1, step=4, reason="full", in_a_row=1), False, True),
        (kinds.Changed(keys=["a"], insisted=[]), False, True),
        (kinds.GaveUp(reason="no checkpoint"), True, True),
        (kinds.AttemptBegun(attempt=4, job_id="7", nodes=None), True, False),
        (kinds.Cancelled(job_id="7"), True, True),
        (compiled(), True, True),
        (validated(), True, False),
    ],
)
def test_which_events_people_see(event: RunEvent, in_log: bool, in_report: bool):
    assert (news(event) is not None, note(event) is not None) == (in_log, in_report)


def test_notes_of_steps_name_the_step():
    assert "4" in str(note(kinds.SaveFailed(attempt=1, step=4, reason="full", in_a_row=1)))
