"""The page: whole, small, closed to what does not belong in it, and honest about what is missing."""

import json
import re
from argparse import Namespace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.verbs.report import report
from launcher.errors import Refused
from launcher.records.sweeps import SweepDir
from launcher.report.charts import Chart
from launcher.report.layout import Cell, Page, PageSection, table
from launcher.report.page import data_script, render
from tests.launcher.report.conftest import Write
from tests.launcher.report.factory import HOSTILE, Writer, make_sweep, train_trial

LARGEST_BYTES = 3_000_000


class Parsed(HTMLParser):
    """Elements and their text, scripts and styles apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def parsed(said: dict[str, Any]) -> Parsed:
    return Parsed(Path(said["report"]).read_text(encoding="utf-8"))


def test_a_run_is_told_in_words_first(write: Write, rough_run: Path):
    said = write(rough_run)
    assert said == {
        "report": str(rough_run / "report.html"),
        "bytes": (rough_run / "report.html").stat().st_size,
    }
    page = parsed(said)
    assert "Loss on the task (64 rows) went from 4 to 1.5 (-2.5, better)" in page.text
    assert "loss on general knowledge (64 rows) went from 3 to 3.05 (+0.05, worse)" in page.text
    assert "3 interruption(s) cost" in page.text
    assert "80 repeated step(s)" in page.text
    assert "abc123 with uncommitted changes" in page.text
    assert "liger runs only on cuda" in page.text


@pytest.mark.parametrize("kind", ["rough_run", "broken_sweep"])
def test_text_of_users_and_models_stays_text(write: Write, kind: str, request: pytest.FixtureRequest):
    page = parsed(write(request.getfixturevalue(kind)))
    assert HOSTILE in "".join(page.words)
    assert len(page.scripts) == 3, "the data, the library and the page's own program"
    assert not any(tag == "b" or "onclick" in attributes for tag, attributes in page.tags)
    assert not any("alert(1)" in script for script in page.scripts[1:])
    data = json.loads(page.scripts[0])
    if kind == "rough_run":
        assert any(HOSTILE in text for text in data["data"]["marks"]["text"])
    assert "<" not in page.scripts[0]


def test_data_cannot_close_its_script_element():
    texts = [HOSTILE, "<!-- <script>", "\u2028"]
    chart = Chart(title="", label="", spec={"title": HOSTILE}, data={"d": {"text": texts}})
    script = data_script([chart])
    assert "<" not in script
    assert "\u2028" not in script
    assert json.loads(script)["data"]["d"]["text"] == texts


def test_the_page_asks_for_nothing_from_anywhere(write: Write, broken_sweep: Path):
    page = parsed(write(broken_sweep))
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert "style" not in attributes, "the policy would refuse it"
    [policy] = [a["content"] or "" for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_64_trials_of_1000_steps_stay_below_3_mb(write: Write, tmp_path: Path):
    axes = {
        "optim.lr": [1e-5, 1e-4, 3e-4, 1e-3],
        "optim.weight_decay": [0.0, 0.01, 0.1, 0.3],
        "seed": [0, 1, 2, 3],
    }
    sweep = make_sweep(tmp_path / "big", axes)
    for trial in sweep.read().trials:
        train_trial(sweep, trial, 1000)
    said = write(sweep.root)
    assert said["bytes"] < LARGEST_BYTES
    data = json.loads(parsed(said).scripts[0])["data"]
    assert set(data["training"]["trial"]) == set(range(64))


def test_a_sweep_tells_its_verdict_its_losses_and_its_decisions(write: Write, broken_sweep: Path):
    page = parsed(write(broken_sweep))
    assert "Best by validation_loss: optim.lr=0.0003" in page.text
    assert (
        "4 of 8 trials finished; 1 failed, 1 pending, 2 preempted (2 of them stopped by halving)" in page.text
    )
    assert "Step 30: 6 of 8 continued" in page.text
    assert "loss 3.3 at step 30" in page.text
    assert f"attempt 1: ValueError: {HOSTILE}" in page.text
    assert "1 trial(s) without a logged step are omitted" in page.text
    assert "4 trial(s) without validation_loss are omitted" in page.text


def test_another_metric_ranks_otherwise(write: Write, broken_sweep: Path):
    assert "Best by forgotten" in parsed(write(broken_sweep, metric="forgotten")).text


def test_a_metric_that_no_trial_has_is_said_to_be_missing(write: Write, broken_sweep: Path):
    page = parsed(write(broken_sweep, metric="accuracy"))
    assert "No setting has a score yet." in page.text
    assert "This chart needs two finished trials with accuracy." in page.text


def test_a_sweep_that_has_not_begun_says_so_and_draws_nothing(write: Write, tmp_path: Path):
    page = parsed(write(make_sweep(tmp_path / "new", {"optim.lr": [1e-4, 1e-3]}).root))
    for sentence in (
        "No trial has finished yet.",
        "No setting has a score yet.",
        "No trial has logged a step yet.",
        "No validation yet",
        "No setting has two finished trials",
        "No finished trial was evaluated",
    ):
        assert sentence in page.text
    assert not any(tag == "figure" for tag, _ in page.tags)
    assert len(page.scripts) == 2, "no chart, no library"


def test_a_run_that_was_only_made_says_what_is_missing(write: Write, tmp_path: Path):
    page = parsed(write(Writer(tmp_path / "new").run.root))
    for sentence in (
        "No result: failed at step 0",
        "No step was logged yet.",
        "The run has not started yet.",
    ):
        assert sentence in page.text
    assert "No checkpoint was saved yet." in page.text


def test_a_failed_run_says_why_and_shows_what_it_measured(write: Write, tmp_path: Path):
    run = Writer(tmp_path / "failed").start().steps(1, 40).fail("CUDA out of memory <b>").run
    page = parsed(write(run.root))
    assert "No result: failed at step 40 of 100. CUDA out of memory <b>." in page.text
    assert "No validation so far." in page.text
    assert sum(tag == "figure" for tag, _ in page.tags) == 5


def test_steps_whose_losses_are_no_numbers_are_told(write: Write, tmp_path: Path):
    run = Writer(tmp_path / "nan").start().steps(1, 4).run
    rows = [json.loads(line) | {"loss": None} for line in run.metrics.read_text().splitlines()]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "No logged step has a finite loss." in parsed(write(run.root)).text


def test_every_chart_has_words_and_numbers_beside_it(write: Write, broken_sweep: Path):
    page = parsed(write(broken_sweep))
    charts = [attributes for _, attributes in page.tags if "data-chart" in attributes]
    assert [attributes["data-chart"] for attributes in charts] == [str(n) for n in range(len(charts))]
    assert all(attributes["aria-label"] and attributes["role"] == "img" for attributes in charts)
    assert page.text.count("Numbers of this chart") == len(charts)


def test_it_is_written_where_one_says(write: Write, tmp_path: Path, rough_run: Path):
    out = tmp_path / "elsewhere.html"
    assert write(rough_run, out=out)["report"] == str(out)
    assert not (rough_run / "report.html").exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_what_cannot_be_done_is_refused(tmp_path: Path, rough_run: Path, broken_sweep: Path):
    def refusal(run: Path, **options: Any) -> str:
        with pytest.raises(Refused) as refused:
            report(Namespace(**{"run": str(run), "out": None, "metric": None, "json": True} | options))
        [problem] = refused.value.problems
        return f"{problem.code} {problem.message} {problem.fix}"

    assert "report.out" in refusal(rough_run, out=tmp_path)
    assert "no such folder" in refusal(rough_run, out=tmp_path / "no" / "report.html")
    assert "has no effect on a single run" in refusal(rough_run, metric="loss")
    assert "did you mean accuracy?" in refusal(broken_sweep, metric="acuracy")
    assert "run.unknown" in refusal(tmp_path / "nothing")
    assert not (broken_sweep / "report.html").exists()


def test_a_pooled_score_is_told_apart_from_the_mean(broken_sweep: Path):
    from launcher.node.halving import setting_key
    from launcher.report.gather import gather_sweep
    from launcher.report.sweep_page import sweep_page
    from launcher.status.trials import read_sweep
    from launcher.sweep.leaderboard import make_leaderboard
    from launcher.sweep.results import trial_results

    sweep = SweepDir(broken_sweep)
    file = sweep.read()
    results = trial_results(sweep, file, read_sweep(sweep, file))
    pooled = {setting_key({"optim.lr": 1e-4}): 0.123}
    board = make_leaderboard(file.sweep, file.axes, results, "validation_loss", pooled)
    page = Parsed(render(sweep_page(gather_sweep(sweep, file, results, board))))
    assert "The score is over the held-out rows" in page.text
    assert re.search(r"1 best .* 0\.123 ", page.text)


def test_columns_of_numbers_sort_as_numbers():
    cells = table("t", ("what", "n"), [(Cell("a"), Cell("1,000", 1000.0)), (Cell("b"), Cell("9", 9.0))])
    page = Page(
        kind="run",
        name="r",
        state="COMPLETED",
        verdict=("Done.",),
        tiles=(),
        sections=(PageSection(anchor="s", title="S", tables=(cells,)),),
        place="/r",
    )
    found = [a for tag, a in Parsed(render(page)).tags if tag == "td"]
    assert [attributes.get("data-sort") for attributes in found] == [None, "1000.0", None, "9.0"]
