"""The sweep directory, its paths and its file sweep.yaml.

`sweep.yaml` contains one base document, and one line per trial with its differences from the base. A node
creates the run directory of a trial from these when the trial starts.
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
"""Fields of a plan that are derived from a trial's config, and not stored for each trial."""
Document = dict[str, Any]
"""Content of a run directory: `config` (run.yaml) and `plan` (plan.json)."""
DocumentChange = tuple[list[str], Any]
"""The path of a value in a document, and its new value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One line of sweep.yaml."""

    name: str
    """Name of the run directory, which contains a hash of the config."""
    point: dict[str, Any]
    """The value of each swept key."""
    changes: list[DocumentChange]
    """Differences from the base document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFile:
    """Content of sweep.yaml."""

    sweep: str
    created: str
    overrides: list[str]
    """Overrides of the last submission."""
    settings: dict[str, Any]
    """The sweep section of the last submission."""
    access: "Access"
    """Who may read and change the directory, as in the config of a run."""
    code: str
    """Hash of the frozen sources."""
    base: Document
    trials: list[Trial]

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Swept keys, each with the values of its trials in their order of appearance."""
        found: dict[str, list[Any]] = {}
        for trial in self.trials:
            for key, value in trial.point.items():
                values = found.setdefault(key, [])
                if value not in values:
                    values.append(value)
        return found

    def config(self, trial: Trial) -> dict[str, Any]:
        """Return the config of a trial, as plain values."""
        return with_current_names(patched(self.base, trial.changes)["config"])

    def document(self, trial: Trial) -> Document:
        """Return the content of a trial's run directory."""
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
    """Trials that were submitted together, to one job array or to one process on this machine."""

    intent: Literal["submit"] = "submit"
    time: float
    executor: Executor
    name: str
    """Name of the array under Slurm; elements are distinguished by their index."""
    trials: list[str]
    """Trials in the order of the indices; for a later rung, all trials that may reach it."""
    rung: int | None
    """Rung of successive halving at which the trials stop, from 0; None without halving."""
    chain: str | None
    """Name of the array of the first rung; None without halving."""
    places: int
    """Number of elements."""


@record
class LostArray(Record):
    """An array that Slurm did not accept, or whose submission was interrupted."""

    time: float = field(default_factory=now)
    name: str
    lost: str
    """The reason."""


_KINDS: dict[str, type[ArrayJob] | type[LostArray] | type[Job]] = {
    "intent": ArrayJob,
    "lost": LostArray,
    "job_id": Job,
}


@dataclass(frozen=True, slots=True)
class SweepDir(JournaledDir):
    """Paths and records in a sweep directory."""

    def log(self, event: SweepEvent) -> None:
        """Append an event to the journal; `launcher.records.sweep_journal` defines the kinds."""
        append_line(self.events, event_row(event), patient=True)

    def read_journal(self) -> list[SweepEvent]:
        """Return all events, oldest first.

        Raises:
            RecordError: The kind of an event is unknown, or a field is missing, unknown or invalid.
        """
        return list(SWEEP_KINDS.read(new_lines(self.events, 0)[0], self.events))

    @property
    def file(self) -> Path:
        """Path of sweep.yaml, with the settings, the base document, and one line per trial."""
        return self.root / "sweep.yaml"

    @property
    def code(self) -> Path:
        """Path of the frozen sources, a zip archive that Python can import from."""
        return self.root / "code.zip"

    @property
    def submitit(self) -> Path:
        """Folder of Submitit's files and of the output of batch scripts and nodes."""
        return self.root / "submitit"

    def run(self, trial: str) -> RunDir:
        """Return the run directory of a trial, which exists once the trial has started."""
        return RunDir(self.root / trial)

    def exists(self) -> bool:
        """Return whether this is a sweep directory."""
        return self.file.is_file()

    def read(self) -> SweepFile:
        """Read sweep.yaml."""
        head, _, lines = self.file.read_text().partition(_TRIALS)
        # Each line is JSON, a subset of YAML, so that thousands of lines are read in milliseconds.
        trials = [Trial(**json.loads(line.removeprefix("- "))) for line in lines.splitlines()]
        return SweepFile(**yaml.load(head, Loader=yaml.CSafeLoader), trials=trials)

    def write(self, file: SweepFile) -> None:
        """Replace sweep.yaml atomically."""
        write_atomic(self.file, sweep_text(file))

    def arrays(self) -> list[ArrayJob]:
        """Return all submitted arrays, oldest first."""
        return [row for row in read_rows(self.jobs, _KINDS) if isinstance(row, ArrayJob)]

    def record_array(self, array: ArrayJob) -> None:
        """Record an array that is about to be submitted."""
        append_row(self.jobs, array)

    def record_lost(self, name: str, why: str) -> None:
        """Record that an array was not submitted."""
        append_row(self.jobs, LostArray(name=name, lost=why))

    def record_job(self, job: Job) -> None:
        """Record the job of an array."""
        append_row(self.jobs, job)

    def lost(self) -> set[str]:
        """Return the names of arrays that were not submitted."""
        return {row.name for row in read_rows(self.jobs, _KINDS) if isinstance(row, LostArray)}

    def array_jobs(self) -> dict[str, Job]:
        """Return the jobs of all arrays, by the name of the array."""
        rows = read_rows(self.jobs, _KINDS)
        return {row.name: row for row in rows if isinstance(row, Job) and row.name}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the sweep, so that only one command changes it at a time."""
        with self.jobs.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sweep_text(file: SweepFile) -> str:
    """Format sweep.yaml: YAML in which each trial is one line of JSON."""
    head = {name: getattr(file, name) for name in SweepFile.__dataclass_fields__ if name != "trials"}
    lines = "".join(f"- {json.dumps(asdict(trial))}\n" for trial in file.trials)
    text = yaml.dump(head, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return f"{text.rstrip()}{_TRIALS}{lines}"


def trial_of(name: str, point: dict[str, Any], base: Document, document: Document) -> Trial:
    """Make the line of a trial from its document.

    Args:
        name: Name of the trial's run directory.
        point: The value of each swept key.
        base: The base document of the sweep.
        document: The document of the trial.
    """
    document = {**document, "config": as_frozen(document["config"], base["config"])}
    found = difference(base, document)
    changes = [(path, value) for path, value in found if path[0] == "config" or path[-1] not in _DERIVED]
    return Trial(name=name, point=point, changes=changes)


def difference(base: Document, other: Document) -> list[DocumentChange]:
    """Return the values that differ between two documents, by path. Sections with other keys are replaced."""
    changes: list[DocumentChange] = []
    for key, value in other.items():
        old = base[key]
        if isinstance(value, dict) and isinstance(old, dict) and value.keys() == old.keys():
            changes += [([key, *path], inner) for path, inner in difference(old, value)]
        elif value != old or type(value) is not type(old):
            changes.append(([key], value))
    return changes


def patched(base: Document, changes: Sequence[DocumentChange]) -> Document:
    """Return a copy of a document with some values replaced."""
    result: Document = json.loads(json.dumps(base))
    for (*sections, name), value in changes:
        place = result
        for section in sections:
            place = place[section]
        place[name] = value
    return result
