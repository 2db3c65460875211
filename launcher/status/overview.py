"""The status of runs and of all trials of sweeps, with one query to the queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from launcher.records.points import label
from launcher.records.runs import all_runs, all_sweeps, on_run_or_sweep, runs_root
from launcher.records.sweeps import SweepDir
from launcher.status.runs import RunStatus, read_statuses
from launcher.status.state import Unstarted
from launcher.status.trials import sweep_runs
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What `shardline status` shows."""

    named: bool
    """Whether the command line gave names; if not, everything under the runs root is shown."""
    runs: Sequence[RunStatus]
    sweeps: Mapping[str, Sequence[RunStatus]]
    """The trials of each sweep, by the sweep's name."""
    labels: Mapping[str, str]
    """The swept values of each trial, by its name."""

    @property
    def statuses(self) -> list[RunStatus]:
        """One list of all: runs, then the trials of each sweep."""
        return [*self.runs, *(status for trials in self.sweeps.values() for status in trials)]


def read_overview(names: Sequence[str]) -> Overview:
    """Read the status of the named runs and sweeps, or of everything under the runs root.

    Raises:
        Refused: a name matches nothing, or several.
    """
    runs: list[RunDir | Unstarted] = [] if names else [*all_runs(runs_root())]
    found: list[SweepDir] = [] if names else all_sweeps(runs_root())
    for name in names:
        on_run_or_sweep(name, runs.append, found.append)
    files = {sweep: sweep.read() for sweep in found}
    trials = {place.root.name: sweep_runs(place, file) for place, file in files.items()}
    statuses = read_statuses([*runs, *chain.from_iterable(trials.values())], attempts=bool(names))
    at = len(runs)
    sweeps = {}
    for name, members in trials.items():
        sweeps[name] = statuses[at : at + len(members)]
        at += len(members)
    labels = {trial.name: label(trial.point) for file in files.values() for trial in file.trials}
    return Overview(named=bool(names), runs=statuses[: len(runs)], sweeps=sweeps, labels=labels)
