"""The tuned model's prediction for each held-out row, for scoring several folds as one set."""

import json
from collections.abc import Sequence
from pathlib import Path

from train.dist import Group
from train.evaluate.scores import RowScore
from train.rundir import write_atomic


def write_predictions(path: Path, mine: Sequence[RowScore], group: Group, labels: Sequence[str]) -> None:
    """Gather all ranks' rows and write one line per row, in the order of the data file. Collective.

    Args:
        path: The file to write.
        mine: The rows that this rank scored.
        group: All ranks; rank 0 writes.
        labels: Class names by id; empty for decoders.
    """
    gathered = group.gather(mine)
    if group.env.is_main:
        scores = sorted((score for part in gathered for score in part), key=lambda score: score.row)
        write_atomic(path, "".join(json.dumps(_as_line(score, labels)) + "\n" for score in scores))


def _as_line(score: RowScore, labels: Sequence[str]) -> dict[str, str | int | float]:
    if score.label is None or score.predicted is None:
        return {"row": score.row, "loss_sum": score.loss_sum, "tokens": score.tokens}
    return {"row": score.row, "label": labels[score.label], "predicted": labels[score.predicted]}
