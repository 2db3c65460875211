"""Held-out questions: every rank answers its share, and the answers keep the order of the questions."""

from types import SimpleNamespace
from typing import Any

import pytest

from train.evaluate import answers


@pytest.mark.parametrize("questions", [1, 3, 4])
def test_ranks_share_the_questions(questions: int, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def generate(_engine: Any, _tokenizer: Any, conversations: Any, *_: Any, sharded: bool) -> list[str]:
        asked.append(len(conversations))
        return [f"answer to {turns[0]['content']}" for turns in conversations]

    monkeypatch.setattr(answers, "_generate", generate)
    conversations = [({"role": "user", "content": f"question {n}"},) for n in range(questions)]
    ranks = 2

    def of_rank(rank: int, shares: list[list[str]]) -> list[str]:
        group = SimpleNamespace(
            env=SimpleNamespace(rank=rank, world_size=ranks, device="cpu"),
            gather=lambda mine: [*shares[:rank], mine, *shares[rank + 1 :]],
        )
        return answers.answer(None, None, conversations, group, 8, sharded=False)

    shares = [
        [f"answer to {conversations[n][0]['content']}" for n in range(rank, questions, ranks)]
        for rank in range(ranks)
    ]
    expected = [f"answer to question {n}" for n in range(questions)]
    assert [of_rank(rank, shares) for rank in range(ranks)] == [expected, expected]
    assert sum(asked) == questions
