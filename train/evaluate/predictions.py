"""What the tuned model made of each held-out row, so that several folds can be scored as one set."""

import json

from train.context import RankContext
from train.evaluate.scores import RowScore
from train.rundir import write_atomic


def write_predictions(context: RankContext, mine: list[RowScore]) -> None:
    """Gather all ranks' rows and write eval/predictions.jsonl, one line per row in the file's order."""
    gathered = context.group.gather(mine)
    if context.is_main:
        labels = context.job.plan.labels
        scores = sorted((score for part in gathered for score in part), key=lambda score: score.row)
        write_atomic(
            context.job.run_dir.predictions,
            "".join(json.dumps(_as_line(score, labels)) + "\n" for score in scores),
        )


def _as_line(score: RowScore, labels: list[str]) -> dict[str, str | int | float]:
    if score.label is None or score.predicted is None:
        return {"row": score.row, "loss_sum": score.loss_sum, "tokens": score.tokens}
    return {"row": score.row, "label": labels[score.label], "predicted": labels[score.predicted]}
