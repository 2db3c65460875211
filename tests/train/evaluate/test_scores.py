"""Scores of a set: weighted by tokens, over the rows of all ranks, and without the rows that fill batches."""

import math
from typing import Any

import pytest
from sklearn.metrics import f1_score

from tests.fakes.group import on_ranks
from tests.train.evaluate.parts import Rows, TableEngine
from train.data.sampler import FILLER
from train.evaluate.scores import RowScore, evaluate, score_rows, summarise

TOKENS = (5, 1, 3, 2, 7)
LOSSES = (1.0, 8.0, 0.5, 2.0, 3.0)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_loss_is_weighted_by_tokens_however_rows_are_dealt(ranks: int, batch_size: int):
    def score(group: Any) -> Any:
        engine: Any = TableEngine(LOSSES)
        rows: Any = Rows(TOKENS)
        return evaluate(engine, rows, group, batch_size, causal=True)

    expected = sum(loss * tokens for loss, tokens in zip(LOSSES, TOKENS, strict=True)) / sum(TOKENS)
    for scores in on_ranks(ranks, score):
        assert (scores.rows, scores.tokens) == (5, 18)
        assert scores.loss == pytest.approx(expected)
        assert scores.perplexity == pytest.approx(math.exp(expected))
        assert (scores.accuracy, scores.macro_f1) == (None, None)


@pytest.mark.parametrize(("ranks", "batch_size", "batches"), [(1, 2, 3), (2, 2, 2), (2, 1, 3), (3, 4, 1)])
def test_ranks_make_equally_many_passes_and_keep_each_row_once(ranks: int, batch_size: int, batches: int):
    def score(group: Any) -> tuple[list[list[int]], list[int]]:
        engine: Any = TableEngine(LOSSES)
        rows: Any = Rows(TOKENS)
        scored = score_rows(engine, rows, group, batch_size, causal=True)
        return engine.batches, [score.row for score in scored]

    found = on_ranks(ranks, score)
    assert {len(made) for made, _ in found} == {batches}
    assert all(len(batch) == batch_size for made, _ in found for batch in made)
    assert sorted(row for _, kept in found for row in kept) == [0, 1, 2, 3, 4]
    fillers = [row for made, _ in found for batch in made for row in batch if row == FILLER]
    assert len(fillers) == ranks * batch_size * batches - 5


def test_the_longest_rows_come_first_and_share_batches():
    engine: Any = TableEngine(LOSSES)
    rows: Any = Rows(TOKENS)
    on_ranks(1, lambda group: score_rows(engine, rows, group, 2, causal=True))
    assert engine.batches == [[4, 0], [2, 3], [1, FILLER]]
    assert not engine.is_evaluating


def test_a_part_of_a_file_keeps_the_numbers_of_its_rows():
    engine: Any = TableEngine(LOSSES)
    rows: Any = Rows(TOKENS)
    rows.numbers = rows.numbers[[1, 3]]
    [scored] = on_ranks(1, lambda group: score_rows(engine, rows, group, 4, causal=True))
    assert [(score.row, score.loss_sum, score.tokens) for score in scored] == [(3, 4.0, 2), (1, 8.0, 1)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_classes_are_scored_over_all_ranks_together(ranks: int):
    labels, guesses = (0, 0, 0, 1, 2), (0, 0, 1, 1, 0)

    def score(group: Any) -> Any:
        engine: Any = TableEngine(guesses, classes=3)
        rows: Any = Rows((3, 3, 3, 3, 3), labels)
        return evaluate(engine, rows, group, 2, causal=False)

    for scores in on_ranks(ranks, score):
        assert (scores.rows, scores.tokens, scores.perplexity) == (5, 5, None)
        assert scores.accuracy == pytest.approx(3 / 5)
        # Of the three classes: 4/6, 2/3 and 0.
        assert scores.macro_f1 == pytest.approx((4 / 6 + 2 / 3) / 3)
        assert scores.macro_f1 == pytest.approx(f1_score(labels, guesses, average="macro"))


@pytest.mark.parametrize(("loss", "perplexity"), [(0.0, 1.0), (700.0, math.exp(700)), (1e6, math.exp(700))])
def test_the_perplexity_of_a_huge_loss_is_a_number(loss: float, perplexity: float):
    [scores] = on_ranks(1, lambda group: summarise([RowScore(0, loss * 4, 4)], group, causal=True))
    assert (scores.loss, scores.perplexity) == (loss, perplexity)


def test_a_rank_without_rows_takes_part():
    shares = [[RowScore(0, 6.0, 2)], []]
    for scores in on_ranks(2, lambda group: summarise(shares[group.env.rank], group, causal=True)):
        assert (scores.rows, scores.tokens, scores.loss) == (1, 2, 3.0)
