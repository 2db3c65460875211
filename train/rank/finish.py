"""The end of a run: the best weights, assessed and exported, and the result. Can be repeated after a kill."""

import json
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from train.checkpoint.progress import Progress
from train.checkpoint.restoring import Restorer
from train.checkpoint.saving import Saver
from train.data.sequences import DataReport
from train.dist import Group
from train.engine.engine import Engine
from train.evaluate.assess import Assessor
from train.export import export_model
from train.measure.goodput import goodput
from train.measure.memory import peak_resident_gb
from train.measure.phases import PhaseTimer
from train.measure.tracking import Tracker
from train.rundir import RunDir, read_lines, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """What happens after the last step."""

    run_dir: RunDir
    attempt: int
    group: Group
    engine: Engine
    tokenizer: Any
    saver: Saver
    restorer: Restorer
    assessor: Assessor
    phases: PhaseTimer
    tracker: Tracker | None
    """On rank 0."""
    report: DataReport
    total_steps: int

    def finish(self, progress: Progress) -> None:
        """Assess and export the best checkpoint by validation (else the last), then write result.json."""
        self.phases.begin("save")
        self.saver.join()
        chosen_step = self.restorer.load_best(self.engine, progress)
        tuned = self.assessor.once("tuned")
        self.phases.begin("export")
        export_model(self.engine, self.tokenizer, self.group, self.run_dir.export)
        peak_rss_gb = self.group.gather(peak_resident_gb())
        if self.group.env.is_main:
            result = self._result(progress, chosen_step, tuned)
            result["peak_rss_gb_per_rank"] = [round(value, 3) for value in peak_rss_gb]
            if result["ended_early"]:
                self.run_dir.log_event(
                    "ended_early", attempt=self.attempt, step=progress.step, reason=result["ended_early"]
                )
            write_json(self.run_dir.result, result)
            self.run_dir.log_event("finished", attempt=self.attempt, step=progress.step)
            if self.tracker:
                self.tracker.close(_flat_scores(result))
        self.group.barrier()

    def _result(self, progress: Progress, chosen_step: int, tuned: dict[str, Any]) -> dict[str, Any]:
        run_dir = self.run_dir
        base_path = run_dir.evaluations / "base.json"
        base = json.loads(base_path.read_text()) if base_path.exists() else {}
        before = [entry["answer"] for entry in base.pop("answers", [])]
        answers = [
            {
                "question": entry["question"],
                "reference": entry["reference"],
                "base": before[number] if before else None,
                "tuned": entry["answer"],
            }
            for number, entry in enumerate(tuned.get("answers", []))
        ]
        events = list(read_lines(run_dir.events))
        submitted = [row["time"] for row in events if row["event"] == "submitted"]
        jobs = [row["job_id"] for row in read_lines(run_dir.jobs) if "job_id" in row]
        metrics = list(read_lines(run_dir.metrics))
        speeds = [row["tokens_per_s"] for row in metrics]
        good = goodput(events, metrics, time.time())
        assert good, "this attempt is in the journal"
        return {
            "outcome": "COMPLETED",
            "step": progress.step,
            "total_steps": self.total_steps,
            "ended_early": _why_early(progress, self.total_steps),
            "data": asdict(self.report),
            "samples": progress.samples,
            "tokens": progress.tokens,
            "attempts": self.attempt,
            "restarts": sum(row["event"] == "crashed" and row["then"] == "restart" for row in events),
            "job_id": jobs[-1] if jobs else None,
            "seconds_since_first_submit": round(time.time() - min(submitted), 1) if submitted else None,
            "allocated_s": round(good.held_s, 1),
            "rank_hours": round(good.held_rank_s / 3600, 4),
            "goodput": {use: round(share, 4) for use, share in good.shares.items()},
            "tokens_per_s": round(median(speeds), 1) if speeds else None,
            "best": {"step": progress.best_step, "validation_loss": progress.best_loss},
            "evaluated_step": chosen_step,
            "evaluation": {
                "base": base,
                "tuned": {name: value for name, value in tuned.items() if name != "answers"},
            },
            "answers": answers,
            "export": str(run_dir.export),
        }


def _why_early(progress: Progress, total_steps: int) -> str | None:
    if progress.step >= total_steps:
        return None
    return (
        f"the last {progress.stale_validations} validations were no better than that of step"
        f" {progress.best_step} (eval.patience)"
    )


def _flat_scores(result: dict[str, Any]) -> dict[str, float]:
    return {
        f"{model}/{name}/{key}": value
        for model, sets in result["evaluation"].items()
        for name, scores in sets.items()
        for key, value in scores.items()
        if isinstance(value, float)
    }
