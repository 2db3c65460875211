"""All runs and all trials of all sweeps, judged together with one question to the queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from launcher.records.points import label
from launcher.records.runs import all_runs, all_sweeps, find, runs_root
from launcher.records.sweeps import SweepDir
from launcher.status.runs import RunStatus, read_statuses
from launcher.status.state import Unstarted
from launcher.status.trials import sweep_runs
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What `shardline status` shows."""

    named: bool
    """Whether the command line names what is wanted."""
    runs: Sequence[RunStatus]
    sweeps: Mapping[str, Sequence[RunStatus]]
    """By the sweep's name: its trials."""
    labels: Mapping[str, str]
    """By trial: what tells it from the others."""

    @property
    def statuses(self) -> list[RunStatus]:
        """All of them, one list: runs, then the trials of each sweep."""
        return [*self.runs, *(status for trials in self.sweeps.values() for status in trials)]


def read_overview(names: Sequence[str]) -> Overview:
    """Judge what is named, or everything under the runs root.

    Raises:
        Refused: a name fits nothing, or several.
    """
    places: Sequence[RunDir | SweepDir] = [find(name) for name in names] or [
        *all_runs(runs_root()),
        *all_sweeps(runs_root()),
    ]
    runs: list[RunDir | Unstarted] = [place for place in places if isinstance(place, RunDir)]
    files = {place: place.read() for place in places if isinstance(place, SweepDir)}
    trials = {place.root.name: sweep_runs(place, file) for place, file in files.items()}
    statuses = read_statuses([*runs, *chain.from_iterable(trials.values())], attempts=bool(names))
    at = len(runs)
    sweeps = {}
    for name, members in trials.items():
        sweeps[name] = statuses[at : at + len(members)]
        at += len(members)
    labels = {trial.name: label(trial.point) for file in files.values() for trial in file.trials}
    return Overview(named=bool(names), runs=statuses[: len(runs)], sweeps=sweeps, labels=labels)
