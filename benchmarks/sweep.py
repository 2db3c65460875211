"""Measure the cost of a sweep on a login node: Shardline and Hydra's Submitit launcher, with a fake Slurm.

    python -m benchmarks.sweep [--trials 256] [--repeats 3] [--finished 1000 10000] [--json]

Both use the same config. Of a submission it measures the seconds to the last sbatch and to the prompt, files
and bytes before a job starts, and milliseconds per additional trial. Hydra's launcher waits for its jobs
after sbatch, so it is killed then and has no time to the prompt. `status` and `results` are measured with
many finished trials. Needs `pip install hydra-submitit-launcher`.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Ratio, as_json, at_least, run_as_command
from benchmarks.hydra_app import APP
from launcher.compose.roots import packaged
from launcher.compose.sweep import compose_sweep
from launcher.records.sweeps import SweepDir, SweepFile, Trial, trial_of
from launcher.sweep.plan import plan_sweep
from tests.fakes.slurm import FakeSlurm, fake_slurm

TITLE = "Cost of a sweep on a login node"
NOTES = "Shell scripts replace Slurm's commands for both."
_FIXED = ("experiment=smoke", "slurm=cluster", "hardware.device=cpu", "hardware.gpus_per_node=2")
_BASELINE_WITHIN_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitCost:
    """Measurements of one submission."""

    to_last_sbatch_s: float
    to_prompt_s: float | None
    sbatch_calls: int
    files: int
    megabytes: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--trials", type=at_least(32, multiple_of=16), default=256, help="a multiple of 16")
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--finished", type=at_least(1), nargs="*", default=[1000, 10000])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure submissions, alternating, then commands over finished trials."""
    submission = _submissions(options.trials, options.repeats)
    ours, hydra = submission["ours"], submission["hydra"]
    ratio = Ratio(
        what=f"submission of {options.trials} trials vs. Hydra's launcher",
        value=ours["to_last_sbatch_s"] / hydra["to_last_sbatch_s"],
        sense="at most",
        target=0.125,
    )
    return {
        "trials": options.trials,
        "submission": submission,
        "looking": [_look(count, options.repeats) for count in options.finished],
        "ratios": as_json([ratio]),
    }


def _submissions(trials: int, repeats: int) -> dict[str, Any]:
    """Measure both, alternating, and once with few trials for the cost of an additional one."""
    few = 16
    launchers = {"ours": _ours, "hydra": _hydra}
    found: dict[str, list[SubmitCost]] = {name: [] for name in launchers}
    for _ in range(repeats):
        for name, submit in launchers.items():
            found[name].append(submit(trials))
    summary: dict[str, Any] = {}
    for name, submit in launchers.items():
        seconds = statistics.median(run.to_last_sbatch_s for run in found[name])
        summary[name] = {
            "runs": [asdict(run) for run in found[name]],
            "to_last_sbatch_s": seconds,
            "per_trial_ms": 1000 * (seconds - submit(few).to_last_sbatch_s) / (trials - few),
        }
    return summary


def _axes(trials: int) -> list[str]:
    seeds = ",".join(str(seed) for seed in range(trials // 4))
    return ["optim.lr=1e-3,1e-4", "zero=stage1,stage2", f"seed={seeds}"]


def _ours(trials: int) -> SubmitCost:
    with _place() as (folder, slurm, environ):
        began = time.time()
        subprocess.run(
            [sys.executable, "-P", "-m", "launcher", "submit", "-m", *_FIXED, *_axes(trials)],
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        ended = time.time()
        return _measured(folder / "runs", slurm, began, ended)


def _hydra(trials: int) -> SubmitCost:
    """Submit with Hydra's launcher, which waits for its jobs and is therefore killed after its sbatch."""
    with _place() as (folder, slurm, environ):
        app = folder / "app.py"
        app.write_text(APP.format(conf=packaged("conf"), examples=packaged("examples")))
        overrides = [*_FIXED, *_axes(trials), "hydra/launcher=submitit_slurm", "hydra.sweep.dir=runs"]
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, str(app), "-m", *overrides],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        while not (slurm.folder / "calls").exists():
            if process.poll() is not None or time.time() - began > _BASELINE_WITHIN_S:
                raise RuntimeError("the launcher did not call sbatch: is hydra-submitit-launcher installed?")
            time.sleep(0.01)
        time.sleep(1.0)
        measured = _measured(folder / "runs", slurm, began, None)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return measured


def _measured(runs: Path, slurm: FakeSlurm, began: float, ended: float | None) -> SubmitCost:
    calls = slurm.folder / "calls"
    files = [path for path in runs.rglob("*") if path.is_file() and not path.is_symlink()]
    return SubmitCost(
        to_last_sbatch_s=calls.stat().st_mtime - began,
        to_prompt_s=ended - began if ended else None,
        sbatch_calls=len(calls.read_text().splitlines()),
        files=len(files),
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
    )


@contextmanager
def _place() -> Iterator[tuple[Path, FakeSlurm, dict[str, str]]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slurm = fake_slurm(folder / "bin")
        environ = {**os.environ, "PATH": slurm.path, "SHARDLINE_RUNS": str(folder / "runs")}
        yield folder, slurm, environ


def _look(count: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of status and results over `count` finished trials and a waiting one."""
    with _place() as (folder, slurm, environ):
        sweep = _finished_sweep(folder / "runs", count)
        verbs = {
            "status": ["status"],
            "status --json": ["status", "--json"],
            "results": ["results", sweep.root.name],
        }
        times: dict[str, float] = {}
        calls: dict[str, int] = {}
        for name, words in verbs.items():
            before = slurm.squeue_calls
            seconds = []
            for _ in range(repeats):
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-P", "-m", "launcher", *words],
                    env=environ,
                    check=True,
                    stdout=subprocess.DEVNULL,
                    cwd=folder,
                )
                seconds.append(time.perf_counter() - began)
            times[name] = statistics.median(seconds)
            calls[name] = (slurm.squeue_calls - before) // repeats
        return {"finished": count, "seconds": times, "squeue_calls": calls}


def _finished_sweep(runs: Path, count: int) -> SweepDir:
    os.environ["SHARDLINE_RUNS"] = str(runs)
    plan, problems = plan_sweep(compose_sweep([*_FIXED, "seed=0,1", "optim.lr=1e-3,2e-3"]))
    assert plan, problems
    base = plan.trials[0].document
    sweep = SweepDir(plan.root)
    sweep.root.mkdir(parents=True)
    rates = [1e-4 * (1 + n % 50) for n in range(count)]
    trials = [
        Trial(
            name=f"smoke-{n:08x}",
            point={"optim.lr": rates[n], "seed": n // 50},
            changes=[(["config", "seed"], n // 50), (["config", "optim", "lr"], rates[n])],
        )
        for n in range(count)
    ]
    waiting = trial_of(plan.trials[-1].name, plan.trials[-1].point, base, plan.trials[-1].document)
    sweep.write(
        SweepFile(
            sweep=sweep.root.name,
            created="2026-01-01T00:00:00+00:00",
            overrides=list(_FIXED),
            settings=plan.settings.model_dump(mode="json"),
            access="private",
            code="",
            base=base,
            trials=[*trials, waiting],
        )
    )
    names = [trial.name for trial in [*trials, waiting]]
    rows: list[dict[str, Any]] = [
        {
            "intent": "submit",
            "time": time.time() - 3600,
            "executor": "slurm",
            "name": f"{sweep.root.name}.00000000",
            "trials": names,
            "rung": None,
            "chain": None,
            "places": len(names),
        },
        {"time": time.time() - 3600, "name": f"{sweep.root.name}.00000000", "job_id": "1001"},
    ]
    sweep.jobs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, trial in enumerate(trials):
        run = sweep.run(trial.name)
        run.root.mkdir()
        run.result.write_text(json.dumps(_result(number)))
    return sweep


def _result(number: int) -> dict[str, Any]:
    loss = 2.0 + 0.001 * (number % 97)
    return {
        "outcome": "COMPLETED",
        "step": 100,
        "total_steps": 100,
        "ended_early": None,
        "samples": 1600,
        "tokens": 100_000,
        "attempts": 1,
        "restarts": 0,
        "job_id": f"1001_{number}",
        "allocated_s": 60.0,
        "rank_hours": 0.03,
        "tokens_per_s": 2000.0,
        "best": {"step": 100, "validation_loss": loss},
        "evaluation": {"base": {}, "tuned": {"task": {"loss": loss, "perplexity": 8.0}}},
        "peak_rss_gb_per_rank": [1.0, 1.0],
    }


def table(result: dict[str, Any]) -> str:
    """Return the tables of submission and of commands over finished trials."""
    ours, hydra = result["submission"]["ours"], result["submission"]["hydra"]
    first, other = ours["runs"][0], hydra["runs"][0]
    lines = [
        f"{result['trials']} trials, medians",
        "",
        "| | Shardline | Hydra's launcher |",
        "|---|---|---|",
        f"| seconds to the last sbatch | {ours['to_last_sbatch_s']:.2f} | {hydra['to_last_sbatch_s']:.2f} |",
        f"| seconds to the prompt | {statistics.median(r['to_prompt_s'] for r in ours['runs']):.2f}"
        " | after the last job |",
        f"| milliseconds per additional trial | {ours['per_trial_ms']:.1f} | {hydra['per_trial_ms']:.1f} |",
        f"| files before the first job | {first['files']} | {other['files']} |",
        f"| megabytes | {first['megabytes']:.2f} | {other['megabytes']:.2f} |",
        f"| sbatch calls | {first['sbatch_calls']} | {other['sbatch_calls']} |",
        "",
        "| finished trials | " + " | ".join(result["looking"][0]["seconds"]) + " | squeue calls |"
        if result["looking"]
        else "",
        "|---|---|---|---|---|" if result["looking"] else "",
    ]
    for entry in result["looking"]:
        seconds = " | ".join(f"{value:.2f} s" for value in entry["seconds"].values())
        lines.append(f"| {entry['finished']} | {seconds} | {max(entry['squeue_calls'].values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])
