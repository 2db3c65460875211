"""The loss on the validation rows: it chooses the best checkpoint, and ends what gets no better."""

from dataclasses import asdict

from train.checkpoint.progress import Progress
from train.context import RankContext
from train.evaluate.scores import evaluate
from train.journal.events import Validated


def validate(context: RankContext, progress: Progress) -> bool:
    """Score the validation set; whether it is the best so far."""
    if "validation" not in context.sets:
        return False
    context.heart.beat("validation")
    context.faults.hit("evaluation")
    scores = evaluate(
        context.engine,
        context.sets["validation"],
        context.group,
        context.job.config.eval.batch_size,
        causal=context.causal,
    )
    improved = progress.note_validation(scores.loss)
    if context.is_main:
        values = {key: value for key, value in asdict(scores).items() if value is not None}
        context.job.run_dir.log(
            Validated(attempt=context.attempt, step=progress.step, best=improved, **values)
        )
        if context.tracker:
            context.tracker.log_values("validation", values, progress.step)
    return improved
