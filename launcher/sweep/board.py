"""Make the leaderboard of a sweep from the statuses, results and held-out predictions of its trials."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from launcher.errors import nearest, refuse
from launcher.node.halving import setting_key
from launcher.records.sweeps import SweepDir, SweepFile
from launcher.status.trials import read_sweep
from launcher.sweep.leaderboard import Leaderboard, default_metric, make_leaderboard
from launcher.sweep.results import METRICS, TrialResult, trial_results
from train.rundir import read_lines


def read_board(sweep: SweepDir, metric: str | None, sort: str | None) -> Leaderboard:
    """Read the current leaderboard of a sweep.

    Args:
        sweep: The sweep, finished or not.
        metric: Metric that ranks the settings; None uses `default_metric`.
        sort: Swept key to order the rows by, instead of by the metric.

    Raises:
        Refused: The metric or the key is unknown.
    """
    file = sweep.read()
    board = board_of(sweep, file, trial_results(sweep, file, read_sweep(sweep, file)), metric)
    if sort is None:
        return board
    if sort not in file.axes:
        raise refuse("results.sort", "--sort", f"unknown swept key {sort!r}", nearest(sort, file.axes))
    return board.sorted_by(sort)


def board_of(
    sweep: SweepDir, file: SweepFile, trials: Sequence[TrialResult], metric: str | None
) -> Leaderboard:
    """Make the leaderboard from results that were already read.

    Args:
        sweep: The sweep, finished or not.
        file: The content of its sweep.yaml.
        trials: The results of its trials.
        metric: Metric that ranks the settings; None uses `default_metric`.

    Raises:
        Refused: The metric is unknown.
    """
    chosen = metric or default_metric(trials)
    if chosen not in METRICS:
        raise refuse("results.metric", "--metric", f"unknown metric {metric!r}", nearest(chosen, METRICS))
    return make_leaderboard(file.sweep, file.axes, trials, chosen, pooled_scores(sweep, trials, chosen))


def pooled_scores(sweep: SweepDir, trials: Sequence[TrialResult], metric: str) -> dict[str, float]:
    """Compute the score of each setting over the held-out rows of all folds together, averaged over seeds.

    A setting is left out until all folds of a seed are finished. For classifiers, losses are averaged over
    folds, because their predictions do not contain losses.
    """
    groups: dict[str, dict[str, list[TrialResult]]] = {}
    folds = {trial.point["cv.fold"] for trial in trials if trial.point.get("cv.fold") is not None}
    classes = any("accuracy" in trial.scores for trial in trials)
    if not folds or metric not in (("accuracy", "macro_f1") if classes else ("loss",)):
        return {}
    for trial in trials:
        if trial.point["cv.fold"] is not None and trial.state == "COMPLETED":
            seeds = groups.setdefault(setting_key(trial.point), {})
            seeds.setdefault(repr(trial.point.get("seed")), []).append(trial)
    return {
        key: fmean(whole)
        for key, seeds in groups.items()
        if (whole := [_pooled(sweep, part, metric) for part in seeds.values() if len(part) == len(folds)])
    }


def _pooled(sweep: SweepDir, trials: Sequence[TrialResult], metric: str) -> float:
    rows = [row for trial in trials for row in _predictions(sweep, trial.name)]
    if metric == "loss":
        return sum(float(str(row["loss_sum"])) for row in rows) / sum(int(str(row["tokens"])) for row in rows)
    # Imported only for classifiers, because it takes a second.
    from sklearn.metrics import accuracy_score, f1_score

    truth, guess = [row["label"] for row in rows], [row["predicted"] for row in rows]
    if metric == "accuracy":
        return float(accuracy_score(truth, guess))
    return float(f1_score(truth, guess, average="macro"))


def _predictions(sweep: SweepDir, trial: str) -> list[Mapping[str, object]]:
    return list(read_lines(sweep.run(trial).predictions))
