"""The sweep directory: its names, its one file, and how trials are told apart in it.

`sweep.yaml` holds what all trials share once, and one line per trial with what differs. A node makes a
trial's run directory from that when it starts.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from launcher.records.jobs import Executor, Job, append_row, read_rows
from launcher.records.points import label
from launcher.records.sweep_journal import SWEEP_KINDS, SweepEvent
from train.config_names import as_frozen, with_current_names
from train.records.base import Record, event_row, now, record
from train.rundir import JournaledDir, RunDir, append_line, new_lines, write_atomic

if TYPE_CHECKING:
    from launcher.config import Access

_TRIALS = "\ntrials:\n"
_DERIVED = ("run", "identity", "wandb_id", "label")
"""What a plan says of a trial's config: worked out again rather than written down for each."""
Document = dict[str, Any]
"""What a run directory is made of: `config` (run.yaml) and `plan` (plan.json)."""
DocumentChange = tuple[list[str], Any]
"""Path of a value in a document, and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One line of sweep.yaml."""

    name: str
    """Of the run directory: the hash of the config is in it."""
    point: dict[str, Any]
    """A value for each swept key."""
    changes: list[DocumentChange]
    """What differs from the base document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFile:
    """All of sweep.yaml."""

    sweep: str
    created: str
    overrides: list[str]
    """What the command line said last."""
    settings: dict[str, Any]
    """The sweep section, as it was last given."""
    access: "Access"
    """As in a run's config."""
    code: str
    """Hash of the frozen sources."""
    base: Document
    trials: list[Trial]

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Each swept key with the values that some trial has, in their order of appearance."""
        found: dict[str, list[Any]] = {}
        for trial in self.trials:
            for key, value in trial.point.items():
                values = found.setdefault(key, [])
                if value not in values:
                    values.append(value)
        return found

    def config(self, trial: Trial) -> dict[str, Any]:
        """A trial's config, as plain values."""
        return with_current_names(patched(self.base, trial.changes)["config"])

    def document(self, trial: Trial) -> Document:
        """What a trial's run directory is made of."""
        from launcher.config import RunConfig

        document = patched(self.base, trial.changes)
        document["config"] = with_current_names(document["config"])
        config = RunConfig.model_validate(document["config"])
        plan = document["plan"]
        plan |= {"run": trial.name, "identity": config.identity}
        plan["training"] |= {
            "run": trial.name,
            "wandb_id": config.wandb_id(Path(config.runs_dir) / self.sweep),
            "label": label(trial.point),
        }
        return document


@record
class ArrayJob(Record):
    """Trials that were handed over together: one job array, or one runner on this machine."""

    intent: Literal["submit"] = "submit"
    time: float
    executor: Executor
    name: str
    """The array's name under Slurm; elements are told apart by their index."""
    trials: list[str]
    """In the order of the indices; for a later rung, all that may get there."""
    rung: int | None
    """Which stop of successive halving they run to, from 0; None: to the end."""
    chain: str | None
    """Of successive halving: the name of the array that began it."""
    places: int
    """How many elements there are."""


@record
class LostArray(Record):
    """A slice that never became a job."""

    time: float = field(default_factory=now)
    name: str
    lost: str
    """Why."""


_KINDS: dict[str, type[ArrayJob] | type[LostArray] | type[Job]] = {
    "intent": ArrayJob,
    "lost": LostArray,
    "job_id": Job,
}


@dataclass(frozen=True, slots=True)
class SweepDir(JournaledDir):
    """All names in one sweep directory; its journal tells what was cancelled, set aside, stopped, and why."""

    def log(self, event: SweepEvent) -> None:
        """Append an event to the journal; `launcher.records.sweep_journal` has the kinds."""
        append_line(self.events, event_row(event), patient=True)

    def read_journal(self) -> list[SweepEvent]:
        """All events, oldest first.

        Raises:
            RecordError: the kind is unknown, or a field is missing, unknown or invalid.
        """
        return list(SWEEP_KINDS.read(new_lines(self.events, 0)[0], self.events))

    @property
    def file(self) -> Path:
        """What is swept, the base document, and one line per trial."""
        return self.root / "sweep.yaml"

    @property
    def code(self) -> Path:
        """The frozen sources; Python imports from it as it is."""
        return self.root / "code.zip"

    @property
    def submitit(self) -> Path:
        """Submitit's files, and the output of batch scripts and nodes."""
        return self.root / "submitit"

    def run(self, trial: str) -> RunDir:
        """Where a trial lives, once it has started."""
        return RunDir(self.root / trial)

    def exists(self) -> bool:
        """Whether there is a sweep."""
        return self.file.is_file()

    def read(self) -> SweepFile:
        """The file."""
        head, _, lines = self.file.read_text().partition(_TRIALS)
        # A line is JSON, which YAML contains: thousands of them are read in milliseconds.
        trials = [Trial(**json.loads(line.removeprefix("- "))) for line in lines.splitlines()]
        return SweepFile(**yaml.load(head, Loader=yaml.CSafeLoader), trials=trials)

    def write(self, file: SweepFile) -> None:
        """Write the file, whole."""
        write_atomic(self.file, sweep_text(file))

    def arrays(self) -> list[ArrayJob]:
        """All that was ever handed over, oldest first."""
        return [row for row in read_rows(self.jobs, _KINDS) if isinstance(row, ArrayJob)]

    def record_array(self, array: ArrayJob) -> None:
        """Say what is about to be handed over."""
        append_row(self.jobs, array)

    def record_lost(self, name: str, why: str) -> None:
        """Say that an array never became a job."""
        append_row(self.jobs, LostArray(name=name, lost=why))

    def record_job(self, job: Job) -> None:
        """Note which job an array became."""
        append_row(self.jobs, job)

    def lost(self) -> set[str]:
        """Arrays that never became jobs."""
        return {row.name for row in read_rows(self.jobs, _KINDS) if isinstance(row, LostArray)}

    def array_jobs(self) -> dict[str, Job]:
        """By array: the job that it became."""
        rows = read_rows(self.jobs, _KINDS)
        return {row.name: row for row in rows if isinstance(row, Job) and row.name}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes a sweep."""
        with self.jobs.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sweep_text(file: SweepFile) -> str:
    """sweep.yaml: YAML in which each trial is one line of JSON."""
    head = {name: getattr(file, name) for name in SweepFile.__dataclass_fields__ if name != "trials"}
    lines = "".join(f"- {json.dumps(asdict(trial))}\n" for trial in file.trials)
    text = yaml.dump(head, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return f"{text.rstrip()}{_TRIALS}{lines}"


def trial_of(name: str, point: dict[str, Any], base: Document, document: Document) -> Trial:
    """The line of a trial, from its document."""
    document = {**document, "config": as_frozen(document["config"], base["config"])}
    found = difference(base, document)
    changes = [(path, value) for path, value in found if path[0] == "config" or path[-1] not in _DERIVED]
    return Trial(name=name, point=point, changes=changes)


def difference(base: Document, other: Document) -> list[DocumentChange]:
    """Paths and values by which a document differs from another; sections with other keys are replaced."""
    changes: list[DocumentChange] = []
    for key, value in other.items():
        old = base[key]
        if isinstance(value, dict) and isinstance(old, dict) and value.keys() == old.keys():
            changes += [([key, *path], inner) for path, inner in difference(old, value)]
        elif value != old or type(value) is not type(old):
            changes.append(([key], value))
    return changes


def patched(base: Document, changes: Sequence[DocumentChange]) -> Document:
    """A document with some values replaced; the base stays as it is."""
    result: Document = json.loads(json.dumps(base))
    for (*sections, name), value in changes:
        place = result
        for section in sections:
            place = place[section]
        place[name] = value
    return result
