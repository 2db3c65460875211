"""The end of a run: assess and export the best weights, write the result. Can be repeated after a kill."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from train.checkpoint.progress import Progress
from train.checkpoint.restoring import Restorer
from train.checkpoint.saving import Saver
from train.dist import Group
from train.engine.engine import Engine
from train.evaluate.assess import Assessor
from train.evaluate.assessment import Assessment, read_assessment
from train.export import export_model
from train.journal.events import AttemptBegun, EndedEarly, RunFinished, Submitted
from train.journal.parts import DataReport
from train.journal.phases import Phase
from train.journal.reading import newest, of_kind, read_journal, restarts_in
from train.measure.goodput import goodput
from train.measure.memory import peak_resident_gb
from train.measure.phases import PhaseTimer
from train.measure.tracking import Tracker
from train.metrics import read_metrics
from train.records.base import to_row
from train.result import AnswerPair, BestCheckpoint, Evaluation, Finished, write_result
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The work after the last step."""

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
    """Set on rank 0 only."""
    report: DataReport
    total_steps: int

    def finish(self, progress: Progress) -> None:
        """Assess and export the best checkpoint by validation loss (or the last), then write result.json."""
        self.phases.begin(Phase.SAVE)
        self.saver.join()
        chosen_step = self.restorer.load_best(self.engine, progress)
        tuned = self.assessor.once("tuned")
        self.phases.begin(Phase.EXPORT)
        export_model(self.engine, self.tokenizer, self.group, self.run_dir.export)
        peak_rss_gb = self.group.gather(peak_resident_gb())
        if self.group.env.is_main:
            result = self._result(progress, chosen_step, tuned, peak_rss_gb)
            if result.ended_early:
                self.run_dir.log(
                    EndedEarly(attempt=self.attempt, step=progress.step, reason=result.ended_early)
                )
            write_result(self.run_dir, result)
            self.run_dir.log(RunFinished(attempt=self.attempt, step=progress.step))
            if self.tracker:
                self.tracker.close(_flat_scores(result))
        self.group.barrier()

    def _result(
        self, progress: Progress, chosen_step: int, tuned: Assessment, peak_rss_gb: list[float]
    ) -> Finished:
        run_dir = self.run_dir
        base = read_assessment(run_dir, "base") or Assessment(scores={})
        journal, metrics = read_journal(run_dir.events), read_metrics(run_dir)
        submitted = [event.time for event in of_kind(journal, Submitted)]
        begun = newest(journal, AttemptBegun)
        speeds = [row.tokens_per_s for row in metrics]
        good = goodput(journal, metrics, time.time())
        assert good, "this attempt is in the journal"
        return Finished(
            step=progress.step,
            total_steps=self.total_steps,
            ended_early=_why_early(progress, self.total_steps),
            data=self.report,
            samples=progress.samples,
            tokens=progress.tokens,
            attempts=self.attempt,
            restarts=restarts_in(journal),
            job_id=begun.job_id if begun else None,
            seconds_since_first_submit=round(time.time() - min(submitted), 1) if submitted else None,
            allocated_s=round(good.held_s, 1),
            rank_hours=round(good.held_rank_s / 3600, 4),
            goodput={use: round(share, 4) for use, share in good.shares.items()},
            tokens_per_s=round(median(speeds), 1) if speeds else None,
            best=BestCheckpoint(step=progress.best_step, validation_loss=progress.best_loss),
            evaluated_step=chosen_step,
            evaluation=Evaluation(base=base.scores, tuned=tuned.scores),
            answers=[
                AnswerPair(
                    question=entry.question,
                    reference=entry.reference,
                    base=base.answers[number].answer if base.answers else None,
                    tuned=entry.answer,
                )
                for number, entry in enumerate(tuned.answers)
            ],
            export=str(run_dir.export),
            peak_rss_gb_per_rank=[round(value, 3) for value in peak_rss_gb],
        )


def _why_early(progress: Progress, total_steps: int) -> str | None:
    if progress.step >= total_steps:
        return None
    return (
        f"no improvement in the last {progress.stale_validations} validations; best at step"
        f" {progress.best_step} (eval.patience)"
    )


def _flat_scores(result: Finished) -> dict[str, float]:
    models = {"base": result.evaluation.base, "tuned": result.evaluation.tuned}
    return {
        f"{model}/{name}/{key}": value
        for model, sets in models.items()
        for name, scores in sets.items()
        for key, value in to_row(scores).items()
        if isinstance(value, float)
    }
