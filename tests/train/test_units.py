"""Small pure parts: batch arithmetic, schedules, losses, failures, the journal."""

import math
import os
from pathlib import Path

import pytest
import torch

from tests.rows import metrics_row
from train.batch import solve_batch
from train.config import OptimConfig
from train.data.render import IGNORED
from train.failures import DataError, Failure, classify, describe, first_cause, read_failures, what_follows
from train.journal.events import Superseded
from train.kernels.apply import attach_loss_head
from train.machine.cpu_features import multiplies_bf16
from train.metrics import latest_by_step
from train.model.loss import class_loss_sum, token_loss_sum, token_losses
from train.model.optim import build_optimizer, learning_rate
from train.rundir import RunDir, append_line, read_lines, write_atomic


@pytest.mark.parametrize(("ranks", "micro", "accumulation"), [(1, 1, 8), (2, 2, 2), (4, 2, 1)])
def test_ranks_times_micro_batch_times_accumulation_is_the_global_batch(
    ranks: int, micro: int, accumulation: int
):
    assert (
        solve_batch(global_batch_size=8, micro_batch_size=micro, world_size=ranks).accumulation
        == accumulation
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 0.775, 0.55, 0.325, 0.1]),
        (
            "cosine",
            [
                0.5,
                1,
                0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)),
                0.55,
                0.1 + 0.9 * 0.5 * (1 - math.cos(math.pi / 4)),
                0.1,
            ],
        ),
        ("wsd", [0.5, 1, 1, 1, 0.55, 0.1]),
    ],
)
def test_schedules_warm_up_and_fall(schedule: str, expected: list[float]):
    config = OptimConfig(lr=1.0, schedule=schedule, warmup_steps=2, min_lr_ratio=0.1, decay_fraction=1 / 3)
    assert [learning_rate(config, step, 6) for step in range(1, 7)] == pytest.approx(expected)


def test_only_matrices_decay():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Embedding(3, 4))
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
    }


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


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (DataError("row"), "data", False),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", False),
        (MemoryError(), "out_of_memory", False),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]"), "network", True),
        (ZeroDivisionError(), "bug", False),
    ],
)
def test_the_class_of_a_failure_decides(error: Exception, kind: str, again: bool):
    assert classify(error) == kind
    then = what_follows(describe(error, rank=0, time=0.0).failure_class, **{**FRESH, "may_requeue": True})
    assert then == ("restart" if again else "stop")


FRESH = {"restarts": 0, "may_requeue": False, "stopping": False}


@pytest.mark.parametrize(
    ("kind", "more", "then"),
    [
        ("killed", {}, "restart"),
        ("hang", {"restarts": 2}, "restart"),
        ("killed", {"restarts": 3}, "stop"),
        ("killed", {"restarts": 3, "may_requeue": True}, "requeue"),
        ("killed", {"stopping": True, "may_requeue": True}, "requeue"),
        ("killed", {"stopping": True}, "stop"),
        ("node", {"may_requeue": True}, "requeue"),
        ("node", {}, "stop"),
        ("user", {"may_requeue": True}, "stop"),
        ("no_checkpoint", {"may_requeue": True}, "stop"),
    ],
)
def test_what_follows_a_failure(kind: str, more: dict[str, object], then: str):
    assert what_follows(kind, **{**FRESH, **more}) == then


def test_the_first_cause_is_not_the_rank_that_lost_its_peers(tmp_path: Path):
    common = {"host": "h", "detail": ""}
    Failure(failure_class="network", message="lost", rank=0, time=1.0, **common).write(
        tmp_path / "failure_rank_0.json"
    )
    Failure(failure_class="data", message="row", rank=1, time=2.0, **common).write(
        tmp_path / "failure_rank_1.json"
    )
    cause = first_cause(read_failures(tmp_path))
    assert cause
    assert cause.rank == 1


def test_a_line_cut_short_by_a_kill_spoils_no_other(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    append_line(path, {"step": 1})
    path.write_text(path.read_text() + '{"step": 2')
    assert list(read_lines(path)) == [{"step": 1}]
    append_line(path, {"step": 3})
    assert list(read_lines(path)) == [{"step": 1}, {"step": 3}]


def test_metrics_read_back_give_each_step_once():
    rows = [metrics_row(step, attempt=attempt) for attempt, step in ((1, 1), (1, 2), (2, 2), (2, 3))]
    assert latest_by_step(rows) == [rows[0], rows[2], rows[3]]


def test_atomic_writes_leave_no_other_file(tmp_path: Path):
    write_atomic(tmp_path / "a.json", "one")
    write_atomic(tmp_path / "a.json", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "two"


def test_what_is_written_is_as_private_as_the_run_directory(tmp_path: Path):
    run = RunDir(tmp_path)
    for mode, others in ((0o700, 0o077), (0o2770, 0o007)):
        tmp_path.chmod(mode)
        before = os.umask(0o022)
        run.adopt_umask()
        run.log(Superseded(job_id="7"))
        os.umask(before)
        assert run.events.stat().st_mode & others == 0
        run.events.unlink()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 fma", False),
        ("flags\t\t: fpu avx512f avx512bw avx512dq avx512vl", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("Features\t: fp asimd", False),
    ],
)
def test_a_processor_that_multiplies_bf16_says_so(tmp_path: Path, line: str, expected: bool):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert multiplies_bf16(tmp_path / "cpuinfo") is expected


def test_torch_sees_the_same_processor():
    assert multiplies_bf16() is torch.ops.mkldnn._is_mkldnn_bf16_supported()
