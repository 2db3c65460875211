"""Specs: data in, encodings out."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.records.sweeps import SweepDir
from launcher.report.by_trial import colour_by_metric, colour_by_setting, trials_data
from launcher.report.charts import Chart, Spec, run_loss, y_scale
from launcher.report.contents import SweepReport
from launcher.report.gather import gather_run, gather_sweep
from launcher.report.parallel import parallel_coordinates
from launcher.report.scales import axis_places, is_continuous, scale_type
from launcher.report.sweep_charts import effect_chart, spread_chart, sweep_loss
from launcher.status.runs import read_status
from launcher.status.trials import read_sweep
from launcher.sweep.leaderboard import make_leaderboard
from launcher.sweep.results import trial_results
from tests.launcher.report.factory import Writer, make_sweep, train_trial
from train.rundir import RunDir


def gathered(sweep: SweepDir, metric: str = "validation_loss") -> SweepReport:
    file = sweep.read()
    results = trial_results(sweep, file, read_sweep(sweep, file))
    return gather_sweep(sweep, file, results, make_leaderboard(file.sweep, file.axes, results, metric, {}))


@pytest.fixture
def report(broken_sweep: Path) -> SweepReport:
    return gathered(SweepDir(broken_sweep))


def drawn(chart: Chart | None) -> Chart:
    """A chart whose every named data set is there, with columns of one length, and whose fields exist."""
    assert chart is not None
    json.dumps(chart.spec, allow_nan=False)
    for columns in chart.data.values():
        assert len({len(column) for column in columns.values()}) == 1
    for layer in chart.spec["layer"]:
        name = (layer["data"] if "data" in layer else chart.spec["data"])["name"]
        known = {*chart.data[name], "label", "setting", "state", "metric"}
        assert {part["field"] for part in encodings(layer) if "field" in part} <= known
    return chart


def encodings(layer: Spec) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in layer["encoding"].values():
        parts += part if isinstance(part, list) else [part]
    return parts


def test_a_run_shows_training_and_validation_in_one_chart(rough_run: Path):
    run = RunDir(rough_run)
    chart = drawn(run_loss(gather_run(run, read_status(run)), "tokens"))
    line = chart.spec["layer"][1]["encoding"]
    assert line["x"]["field"] == "tokens"
    assert line["color"]["scale"]["domain"] == ["training", "validation"]
    assert set(chart.data["kinds"]["kind"]) == {"training", "validation"}
    assert [layer["mark"]["type"] for layer in chart.spec["layer"][-2:]] == ["rule", "point"]
    assert chart.data["marks"]["step"] == [100, 180, 250]


def test_a_run_without_interruption_or_validation_draws_neither(tmp_path: Path):
    run = Writer(tmp_path / "run").start().steps(1, 20).run
    chart = drawn(run_loss(gather_run(run, read_status(run)), "step"))
    assert len(chart.spec["layer"]) == 3
    assert "marks" not in chart.data
    assert chart.spec["layer"][1]["encoding"]["color"]["scale"]["domain"] == ["training"]


def test_losses_of_different_magnitude_get_a_logarithmic_axis():
    assert y_scale([10.0, 1.0])["type"] == "log"
    assert y_scale([4.0, 1.0])["type"] == "linear"
    assert y_scale([10.0, 0.0])["type"] == "linear"
    assert y_scale([])["type"] == "linear"


@pytest.mark.parametrize("x", ["step", "tokens"])
def test_a_sweep_draws_every_trial_that_has_a_curve(report: SweepReport, x: str):
    chart = drawn(sweep_loss(report, "training", x))
    assert set(chart.data["training"]["trial"]) == set(range(7)), "the eighth trial never started"
    assert chart.spec["layer"][1]["encoding"]["x"]["field"] == x
    assert chart.spec["layer"][1]["encoding"]["detail"]["field"] == "trial"
    validated = drawn(sweep_loss(report, "validation", x))
    assert set(validated.data["validation"]["trial"]) == {0, 1, 2, 3, 4, 6}, "the fifth failed before"


def test_charts_of_a_sweep_share_their_data(report: SweepReport):
    by_step, by_tokens = sweep_loss(report, "training", "step"), sweep_loss(report, "training", "tokens")
    assert drawn(by_step).data == drawn(by_tokens).data


def test_parallel_coordinates_take_the_finished_trials_through_every_key(report: SweepReport):
    chart = drawn(parallel_coordinates(report))
    places = chart.data["places"]
    assert set(places["trial"]) == {2, 3, 4, 6}
    assert list(dict.fromkeys(places["key"])) == ["lr", "seed", "validation_loss"]
    assert all(0 <= at <= 1 for at in places["at"])
    scores = {n: report.trials[n].result.scores["validation_loss"] for n in (2, 3, 4, 6)}
    best = min(scores, key=lambda n: scores[n])
    rows = list(zip(places["trial"], places["key"], places["at"], strict=True))
    assert (best, "validation_loss", 0.0) in rows
    texts = {
        v for k, v in zip(chart.data["ticks"]["key"], chart.data["ticks"]["value"], strict=True) if k == "lr"
    }
    assert texts == {"0.0001", "0.0003", "0.001"}


def test_values_lie_evenly_when_few_and_to_scale_when_many():
    assert axis_places([1e-3, 1e-5, 1e-4]) == {"1e-05": 0.0, "0.0001": 0.5, "0.001": 1.0}
    assert axis_places(["cosine", "linear"]) == {"cosine": 0.0, "linear": 1.0}
    assert axis_places([None, True]) == {"null": 0.0, "true": 1.0}
    many = [10.0**-exponent for exponent in range(9)]
    places = axis_places(many)
    assert places["0.0001"] == pytest.approx(0.5)
    assert scale_type(many) == "log"
    assert not is_continuous([True] * 20)


def test_an_effect_shows_trials_as_points_and_means_as_bars(report: SweepReport):
    effect = next(effect for effect in report.board.effects if effect.key == "optim.lr")
    chart = drawn(effect_chart(report, effect))
    points, bars = chart.spec["layer"]
    assert (points["mark"]["type"], bars["mark"]["type"]) == ("point", "tick")
    assert points["encoding"]["x"]["type"] == "nominal"
    assert len(chart.data["dots optim.lr"]["trial"]) == 4
    assert chart.data["means optim.lr"]["trials"] == [2, 1, 1]


def test_an_effect_over_many_drawn_values_has_a_scale_and_no_bars(tmp_path: Path):
    sweep = make_sweep(tmp_path / "drawn", {"optim.lr": [1e-5 * 1.5**n for n in range(12)]})
    for trial in sweep.read().trials:
        train_trial(sweep, trial, 10)
    report = gathered(sweep)
    chart = drawn(effect_chart(report, report.board.effects[0]))
    [points] = chart.spec["layer"]
    assert points["encoding"]["x"]["scale"]["type"] == "log"
    assert chart.data["dots optim.lr"]["value"][0] == 1e-5


def test_the_spread_is_of_settings_with_two_finished_trials(report: SweepReport):
    chart = drawn(spread_chart(report))
    assert chart.data["spread means"]["setting"] == ["lr=0.0001"]
    assert chart.data["spread"]["trial"] == [2, 3]


def test_a_refit_is_the_product_and_not_the_evidence(tmp_path: Path):
    sweep = make_sweep(tmp_path / "folds", {"optim.lr": [1e-4, 1e-3], "cv.fold": [0, 1, None]})
    for trial in sweep.read().trials:
        train_trial(sweep, trial, 10)
    report = gathered(sweep)
    refits = {n for n, trial in enumerate(report.trials) if trial.result.point["cv.fold"] is None}
    assert refits == {2, 5}
    for chart, name in (
        (parallel_coordinates(report), "places"),
        (effect_chart(report, report.board.effects[0]), f"dots {report.board.effects[0].key}"),
        (spread_chart(report), "spread"),
    ):
        assert refits.isdisjoint(drawn(chart).data[name]["trial"])


def test_few_settings_are_named_and_many_are_coloured_by_the_metric(report: SweepReport, tmp_path: Path):
    named = colour_by_setting(report)
    assert named["scale"]["domain"][0] == "lr=0.0003"
    assert set(trials_data(report)["setting"]) == set(named["scale"]["domain"])
    many = gathered(make_sweep(tmp_path / "many", {"optim.lr": [n / 1e4 for n in range(1, 10)]}))
    assert colour_by_setting(many)["condition"]["field"] == "metric"


def test_the_best_has_the_same_colour_whichever_way_the_metric_points(broken_sweep: Path):
    lowest = colour_by_metric(gathered(SweepDir(broken_sweep), "validation_loss"))
    highest = colour_by_metric(gathered(SweepDir(broken_sweep), "accuracy"))
    assert lowest["condition"]["scale"]["range"][0] == highest["condition"]["scale"]["range"][-1]


def test_without_finished_trials_nothing_is_drawn(tmp_path: Path):
    report = gathered(make_sweep(tmp_path / "empty", {"optim.lr": [1e-4, 1e-3], "seed": [0, 1]}))
    assert sweep_loss(report, "training", "step") is None
    assert parallel_coordinates(report) is None
    assert spread_chart(report) is None
    assert report.board.effects == ()
