"""Loss, perplexity, accuracy and macro-F1 of a set, weighted by tokens over all ranks."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from train.data.collate import TokenSet
from train.data.render import IGNORED
from train.data.sampler import FILLER
from train.dist import Group
from train.engine import Engine
from train.loss import class_loss_sum


@dataclass(frozen=True, slots=True)
class Scores:
    """What a set scored. Losses are in nats."""

    rows: int
    tokens: int
    """Trained tokens (decoders) or rows (classification) that the loss is a mean of."""
    loss: float
    perplexity: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None


def evaluate(engine: Engine, rows: TokenSet, group: Group, batch_size: int, *, causal: bool) -> Scores:
    """Score a set with all ranks, in equally many forward passes each; fillers weigh nothing."""
    loss_sum = trained = 0.0
    predicted: dict[int, tuple[int, int]] = {}
    with engine.evaluating():
        for numbers in _my_batches(rows, batch_size, group):
            batch = rows.collate(numbers, group.env.device)
            if causal:
                loss_sum += float(engine.loss_sum(batch))
                trained += float((batch.labels[:, 1:] != IGNORED).sum())
            else:
                logits = engine.logits(batch)
                loss_sum += float(class_loss_sum(logits, batch.labels))
                trained += float((batch.labels != IGNORED).sum())
                predicted |= _predictions(numbers, batch.labels, logits)
    loss_sum, trained = group.sum([loss_sum, trained])
    loss = loss_sum / trained
    if causal:
        return Scores(len(rows), int(trained), loss, perplexity=math.exp(min(loss, 700.0)))
    pairs = [pair for part in group.gather(predicted) for pair in part.values()]
    truth, guess = zip(*pairs, strict=True)
    # Classifiers only: importing it takes a second of every start.
    from sklearn.metrics import accuracy_score, f1_score

    return Scores(
        len(rows),
        int(trained),
        loss,
        accuracy=float(accuracy_score(truth, guess)),
        macro_f1=float(f1_score(truth, guess, average="macro")),
    )


def _my_batches(rows: TokenSet, batch_size: int, group: Group) -> list[list[int]]:
    """Rows by falling length, dealt out so that every rank has equally many batches."""
    order = [int(row) for row in np.argsort(-rows.tokens, kind="stable")]
    per_round = batch_size * group.env.world_size
    order += [FILLER] * (-len(order) % per_round)
    return [
        order[start + group.env.rank : start + per_round : group.env.world_size]
        for start in range(0, len(order), per_round)
    ]


def _predictions(
    numbers: list[int], labels_B: torch.Tensor, logits_BV: torch.Tensor
) -> dict[int, tuple[int, int]]:
    guesses = logits_BV.argmax(dim=-1).tolist()
    return {
        number: (label, guess)
        for number, label, guess in zip(numbers, labels_B.tolist(), guesses, strict=True)
        if number != FILLER
    }
