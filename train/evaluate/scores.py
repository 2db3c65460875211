"""Loss, perplexity, accuracy and macro-F1 of a set, weighted by tokens over all ranks.

Shape legend: B rows, V classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from train.data.collate import Batch, TokenSet
from train.data.sampler import FILLER
from train.dist import Group
from train.engine.engine import Engine
from train.journal.parts import Scores
from train.model.loss import class_losses


@dataclass(frozen=True, slots=True)
class RowScore:
    """The scores of one row."""

    row: int
    """The number of the row in the file."""
    loss_sum: float
    tokens: int
    """Number of trained tokens that the loss is summed over (decoders); 1 for classification."""
    label: int | None = None
    predicted: int | None = None
    """The predicted class id; None for decoders, like `label`."""


def evaluate(engine: Engine, rows: TokenSet, group: Group, batch_size: int, *, causal: bool) -> Scores:
    """Score a set on all ranks. Collective.

    Args:
        engine: The engine that holds the model.
        rows: The set.
        group: All ranks.
        batch_size: Rows per forward pass and rank.
        causal: Whether the model predicts tokens rather than classes.
    """
    return summarise(score_rows(engine, rows, group, batch_size, causal=causal), group, causal=causal)


def score_rows(
    engine: Engine, rows: TokenSet, group: Group, batch_size: int, *, causal: bool
) -> list[RowScore]:
    """Score this rank's share of a set; all ranks run the same number of forward passes. Collective.

    Args:
        engine: The engine that holds the model.
        rows: The set.
        group: All ranks.
        batch_size: Rows per forward pass and rank.
        causal: Whether the model predicts tokens rather than classes.

    Returns:
        The scores of this rank's rows, without fillers.
    """
    scored: list[RowScore] = []
    with engine.evaluating():
        for numbers in _my_batches(rows, batch_size, group):
            batch = rows.collate(numbers, group.env.device)
            scores = (_score_causal if causal else _score_classes)(engine, batch, numbers)
            scored += [score for score in scores if score.row != FILLER]
    return scored


def summarise(mine: list[RowScore], group: Group, *, causal: bool) -> Scores:
    """Combine the shares of all ranks into the scores of a set. Collective."""
    loss_sum, tokens, rows = group.sum(
        [sum(score.loss_sum for score in mine), sum(score.tokens for score in mine), len(mine)]
    )
    loss = loss_sum / tokens
    if causal:
        return Scores(rows=int(rows), tokens=int(tokens), loss=loss, perplexity=math.exp(min(loss, 700.0)))
    pairs = [pair for part in group.gather([(s.label, s.predicted) for s in mine]) for pair in part]
    truth, guess = zip(*pairs, strict=True)
    # Imported for classifiers only, as the import takes a second.
    from sklearn.metrics import accuracy_score, f1_score

    return Scores(
        rows=int(rows),
        tokens=int(tokens),
        loss=loss,
        accuracy=float(accuracy_score(truth, guess)),
        macro_f1=float(f1_score(truth, guess, average="macro")),
    )


def _my_batches(rows: TokenSet, batch_size: int, group: Group) -> list[list[int]]:
    """Return this rank's batches of rows, sorted by falling length; all ranks get the same number."""
    by_length = rows.numbers[np.argsort(-rows.tokens[rows.numbers], kind="stable")]
    order = [int(row) for row in by_length]
    per_round = batch_size * group.env.world_size
    order += [FILLER] * (-len(order) % per_round)
    return [
        order[start + group.env.rank : start + per_round : group.env.world_size]
        for start in range(0, len(order), per_round)
    ]


def _score_causal(engine: Engine, batch: Batch, numbers: list[int]) -> list[RowScore]:
    losses_B = engine.row_losses(batch)
    assert batch.target_positions_N is not None
    tokens_B = torch.bincount(
        batch.target_positions_N // batch.input_ids_BT.shape[1], minlength=len(losses_B)
    )
    return [RowScore(*values) for values in zip(numbers, losses_B.tolist(), tokens_B.tolist(), strict=True)]


def _score_classes(engine: Engine, batch: Batch, numbers: list[int]) -> list[RowScore]:
    logits_BV = engine.logits(batch)
    losses_B = class_losses(logits_BV, batch.labels).tolist()
    guesses_B = logits_BV.argmax(dim=-1).tolist()
    return [
        RowScore(number, loss, 1, label, guess)
        for number, loss, label, guess in zip(
            numbers, losses_B, batch.labels.tolist(), guesses_B, strict=True
        )
    ]
