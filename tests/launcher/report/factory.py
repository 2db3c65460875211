"""Run and sweep directories as the code writes them, without training anything."""

import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from launcher.records.sweeps import ArrayJob, SweepDir, SweepFile, Trial
from train.rundir import RunDir, append_line, write_json

BEGAN = 1_800_000_000.0
HOSTILE = "</script><script>alert(1)</script><b onclick='x()'>&amp;"
_SCORES = ("loss", "perplexity", "accuracy", "macro_f1")


def config(**values: Any) -> dict[str, Any]:
    """A config that is large enough to be told."""
    base: dict[str, Any] = {
        "name": "tune",
        "seed": 0,
        "data": {"source": "rows.jsonl"},
        "optim": {"lr": 1e-3, "weight_decay": 0.0},
        "train": {"global_batch_size": 16, "max_steps": 100},
        "tracking": {"tags": []},
    }
    for key, value in values.items():
        *sections, name = key.split("__")
        place = base
        for section in sections:
            place = place[section]
        place[name] = value
    return base


class Writer:
    """Writes a run's files step by step, by a clock of its own."""

    def __init__(self, root: Path, total_steps: int = 100, values: Mapping[str, Any] | None = None) -> None:
        self.run = RunDir(root)
        self.total_steps = total_steps
        self.now = BEGAN
        self.attempt = self.restart = 0
        root.mkdir(parents=True)
        self.run.config.write_text(json.dumps(values or config()))
        write_json(self.run.plan, {"time": {"total_steps": total_steps}, "training": {"label": None}})
        (root / "code").mkdir()
        origin = {
            "git_commit": "abc123",
            "git_dirty": True,
            "python": "3.11.7",
            "versions": {"torch": "2.13.0"},
        }
        write_json(root / "code" / "code.json", origin)
        self.event("submitted", executor="local", host="here")
        append_line(self.run.jobs, {"time": BEGAN, "intent": "submit", "executor": "local", "name": None})
        dead = {
            "time": BEGAN,
            "job_id": "1",
            "name": None,
            "executor": "local",
            "host": os.uname().nodename,
            "started": 0.0,
        }
        append_line(self.run.jobs, dead)

    def event(self, event: str, **fields: Any) -> None:
        append_line(self.run.events, {"time": round(self.now, 3), "event": event, **fields})

    def start(
        self, *, in_place: bool = False, resumed: int = 0, after_s: float = 5.0, nodes: str | None = None
    ):
        """A new attempt, or a start in place."""
        self.now += after_s
        if in_place:
            self.restart += 1
        else:
            self.attempt, self.restart = self.attempt + 1, 0
            self.event("attempt", attempt=self.attempt, job_id=f"7{self.attempt}", nodes=nodes)
        self.now += 3.0
        liger = {"name": "torch", "why": "liger runs only on cuda"}
        self.event("kernels", attempt=self.attempt, engaged={"rope": liger})
        self.event(
            "started", attempt=self.attempt, world_size=2, total_steps=self.total_steps, restart=self.restart
        )
        if resumed:
            self.event("resumed", attempt=self.attempt, step=resumed)
        return self

    def steps(self, first: int, last: int, floor: float = 1.0, seed: int = 0, every_val: int = 0) -> "Writer":
        """Logged steps with a falling loss."""
        chance, lines = random.Random(seed), []
        for step in range(first, last + 1):
            self.now += 1.0
            loss = floor + 3.0 * math.exp(-3 * step / self.total_steps) + chance.gauss(0, 0.05)
            row = {
                "attempt": self.attempt,
                "step": step,
                "loss": loss,
                "lr": 1e-3 * (1 - step / self.total_steps),
                "tokens": step * 4096,
                "samples": step * 16,
                "grad_norm": abs(chance.gauss(1, 0.2)),
                "tokens_per_s": round(4000 + chance.gauss(0, 100), 1),
                "time": round(self.now, 3),
            }
            lines.append(json.dumps(row) + "\n")
            if every_val and step % every_val == 0:
                self.validate(step, loss + 0.1)
        with self.run.metrics.open("a") as file:
            file.writelines(lines)
        return self

    def validate(self, step: int, loss: float) -> None:
        self.event("validation", attempt=self.attempt, step=step, best=True, rows=64, tokens=9, loss=loss)

    def checkpoint(self, step: int) -> "Writer":
        self.now += 0.1
        self.event(
            "checkpoint",
            attempt=self.attempt,
            step=step,
            bytes=4_000_000,
            seconds=0.4,
            stall_s=0.02,
            dropped=[],
        )
        return self

    def crash(self, reason: str, then: str = "restart") -> "Writer":
        self.now += 0.5
        self.event(
            "crashed",
            attempt=self.attempt,
            failure_class="killed",
            rank=1,
            host="here",
            reason=reason,
            then=then,
        )
        return self

    def preempt(self, step: int, reason: str) -> "Writer":
        self.event("preempted", attempt=self.attempt, step=step, reason=reason)
        return self

    def fail(self, why: str) -> "Writer":
        self.crash(why, then="stop")
        write_json(self.run.result, {"outcome": "FAILED", "why": why, "exit_code": 4})
        return self

    def finish(
        self,
        loss: float = 1.5,
        base: float = 4.0,
        validation: float | None = 1.6,
        answers: Sequence[Mapping[str, Any]] = (),
        general: tuple[float, float] | None = None,
    ) -> "Writer":
        self.now += 2.0
        self.event("finished", attempt=self.attempt, step=self.total_steps)
        evaluation = {"base": {"task": scores(base)}, "tuned": {"task": scores(loss)}}
        if general:
            evaluation["base"]["general"], evaluation["tuned"]["general"] = map(scores, general)
        result = {
            "outcome": "COMPLETED",
            "step": self.total_steps,
            "total_steps": self.total_steps,
            "ended_early": None,
            "samples": self.total_steps * 16,
            "tokens": self.total_steps * 4096,
            "attempts": self.attempt,
            "restarts": self.restart,
            "job_id": "71",
            "seconds_since_first_submit": 120.0,
            "allocated_s": 118.0,
            "rank_hours": 0.066,
            "tokens_per_s": 4000.0,
            "best": {"step": self.total_steps, "validation_loss": validation},
            "evaluated_step": self.total_steps,
            "evaluation": evaluation,
            "answers": list(answers),
            "export": str(self.run.export),
            "peak_rss_gb_per_rank": [0.7, 0.8],
        }
        write_json(self.run.result, result)
        return self


def scores(loss: float) -> dict[str, Any]:
    """What an assessment of a decoder leaves."""
    found = {"set": "test", "rows": 64, "tokens": 7899, "loss": loss, "perplexity": math.exp(loss)}
    return {**found, "accuracy": None, "macro_f1": None}


def make_sweep(root: Path, axes: Mapping[str, Sequence[Any]], **settings: Any) -> SweepDir:
    """sweep.yaml over a grid, with every trial handed over and none begun."""
    root.mkdir(parents=True)
    base = {
        "config": config(),
        "plan": {"run": "", "training": {"run": "", "label": None}, "time": {"total_steps": 100}},
    }
    trials = [
        Trial(name=f"tune-{number:08x}", point=dict(zip(axes, values, strict=True)), changes=[])
        for number, values in enumerate(product(*axes.values()))
    ]
    trials = [
        Trial(name=trial.name, point=trial.point, changes=_changes(trial.point, base)) for trial in trials
    ]
    file = SweepFile(
        sweep=root.name,
        created="2026-11-24 12:00",
        overrides=[f"{key}={','.join(map(str, values))}" for key, values in axes.items()],
        settings={"halving": None, **settings},
        access="private",
        code="c0de",
        base=base,
        trials=trials,
    )
    sweep = SweepDir(root)
    sweep.write(file)
    sweep.record_array(
        ArrayJob(
            time=BEGAN - 10,
            executor="local",
            name="slice",
            trials=[trial.name for trial in trials],
            rung=None,
            chain=None,
            places=len(trials),
        )
    )
    return sweep


def _changes(point: Mapping[str, Any], base: Mapping[str, Any]) -> list[Any]:
    label = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items())
    known = [(["config", *key.split(".")], value) for key, value in point.items() if key != "cv.fold"]
    return [*known, (["plan", "training", "label"], label)]


def train_trial(sweep: SweepDir, trial: Trial, steps: int = 100, **finish: Any) -> Writer:
    """A trial that went through, the better the nearer its learning rate is to 3e-4."""
    lr = float(trial.point.get("optim.lr", 1e-3))
    seed = int(trial.point.get("seed") or 0)
    noise = random.Random(trial.name).gauss(0, 0.02)
    loss = (
        1.2 + 0.3 * abs(math.log10(lr / 3e-4)) + 0.8 * float(trial.point.get("optim.weight_decay", 0)) + noise
    )
    writer = Writer(sweep.run(trial.name).root, steps).start()
    writer.steps(1, steps, floor=loss, seed=seed, every_val=max(1, steps // 10)).checkpoint(steps)
    return writer.finish(
        **{"loss": loss, "validation": loss + 0.1, "general": (3.0, 3.0 + loss / 20), **finish}
    )
