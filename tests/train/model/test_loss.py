"""Losses of tokens and classes, against torch's own."""

import pytest
import torch

from train.data.render import IGNORED
from train.kernels.apply import attach_loss_head
from train.model.loss import class_loss_sum, token_loss_sum, token_losses


def loss_head(hidden: int, vocabulary: int, *, bias: bool = False) -> torch.nn.Linear:
    head = torch.nn.Linear(hidden, vocabulary, bias=bias)
    attach_loss_head(head, chunked=True)
    return head


def test_token_loss_is_a_sum_over_trained_tokens_of_the_next_one():
    hidden = torch.randn(2, 4, 5)
    head = loss_head(5, 7)
    labels, places = torch.tensor([3, 2, 5]), torch.tensor([0, 2, 5])
    log_p = torch.log_softmax(head(hidden).double(), dim=-1)
    expected = -(log_p[0, 0, 3] + log_p[0, 2, 2] + log_p[1, 1, 5])
    assert token_loss_sum(hidden, head, labels, places).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_losses_of_rows_add_up_to_the_loss_of_the_batch():
    hidden, head = torch.randn(3, 4, 5), loss_head(5, 7)
    labels, places = torch.tensor([3, 2, 5, 6]), torch.tensor([0, 2, 9, 10])
    rows = token_losses(hidden, head, labels, places)
    for number in (0, 2):
        mine = places // 4 == number
        alone = token_loss_sum(hidden[number : number + 1], head, labels[mine], places[mine] % 4)
        assert rows[number].item() == pytest.approx(alone.item(), rel=1e-6)
    assert rows[1] == 0
    nothing = torch.empty(0, dtype=torch.int64)
    assert token_losses(hidden[:2], head, nothing, nothing).tolist() == [0, 0]


def test_a_batch_without_a_trained_token_still_reaches_the_parameters():
    hidden = torch.randn(1, 3, 5, requires_grad=True)
    head = loss_head(5, 7, bias=True)
    nothing = torch.empty(0, dtype=torch.int64)
    loss = token_loss_sum(hidden, head, nothing, nothing)
    loss.backward()
    assert loss.item() == 0
    for gradient in (hidden.grad, head.weight.grad):
        assert gradient is not None
        assert not gradient.any()


def test_class_loss_ignores_fillers():
    logits = torch.randn(3, 5)
    labels = torch.tensor([2, IGNORED, 4])
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]], reduction="sum")
    assert class_loss_sum(logits, labels).item() == pytest.approx(expected.item())
