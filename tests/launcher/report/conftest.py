"""What the tests of the report share."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.verbs.report import report
from launcher.records.sweep_journal import RungDecided
from tests.launcher.report.factory import HOSTILE, Writer, config, make_sweep, train_trial

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(capsys: pytest.CaptureFixture[str]) -> Write:
    """`shardline report DIR --json`, in this process."""

    def call(path: Path, out: Path | None = None, metric: str | None = None) -> dict[str, Any]:
        options = Namespace(run=str(path), out=out, metric=metric, json=True)
        assert report(options) == 0
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        return said

    return call


@pytest.fixture
def rough_run(tmp_path: Path) -> Path:
    """A finished run that was killed, restarted in place, preempted and killed again; hostile texts in it."""
    writer = Writer(tmp_path / "tune-1", 400, config(data__source=HOSTILE))
    writer.start(nodes="node[1-2]").steps(1, 130, every_val=50).checkpoint(50).checkpoint(100)
    writer.crash(f"rank 1 was killed {HOSTILE}")
    writer.start(in_place=True, resumed=100).steps(101, 180, every_val=50).checkpoint(150)
    writer.preempt(180, "SIGUSR2")
    writer.start(resumed=180, after_s=240).steps(181, 300, every_val=50)
    writer.start(resumed=250, after_s=60).steps(251, 400, every_val=50).checkpoint(400)
    writer.event("bad_step", attempt=3, step=201, kind="spike", reason=f"a jump {HOSTILE}")
    answer = {"question": HOSTILE, "reference": HOSTILE, "base": HOSTILE, "tuned": HOSTILE}
    writer.finish(answers=[answer], general=(3.0, 3.05))
    return writer.run.root


@pytest.fixture
def broken_sweep(tmp_path: Path) -> Path:
    """A halved sweep: two trials stopped at a rung, one failed, one never started, the others finished."""
    axes = {"optim.lr": [1e-5, 1e-4, 3e-4, 1e-3], "seed": [0, 1]}
    sweep = make_sweep(tmp_path / "tune-sweep-1", axes, halving={"rungs": [30], "keep": 0.5})
    trials = sweep.read().trials
    for trial in trials[:2]:
        writer = Writer(sweep.run(trial.name).root).start().steps(1, 30, floor=2)
        writer.validate(30, 3.3)
        writer.checkpoint(30).preempt(30, "sweep.halving")
    for trial in (*trials[2:5], trials[6]):
        train_trial(sweep, trial)
    Writer(sweep.run(trials[5].name).root).start().steps(1, 44).fail(f"ValueError: {HOSTILE}")
    names = [trial.name for trial in trials]
    dropped = dict.fromkeys(names[:2], f"loss 3.3 at step 30 {HOSTILE}")
    sweep.log(RungDecided(chain="slice", rung=0, step=30, kept=names[2:], dropped=dropped))
    return sweep.root
