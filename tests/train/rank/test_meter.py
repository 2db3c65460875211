"""What a line of metrics says: where a step's time went, how much of the peak was used, whose memory."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.planning.estimate.duration import model_work
from launcher.planning.estimate.shape import ModelShape
from train.checkpoint.progress import Progress
from train.flops import ModelWork, SpeedPlan, utilisation
from train.measure.clock import DeviceClock, HostClock
from train.metrics import MetricsRow
from train.observer import StepDone, StepSize
from train.rank.meter import Meter, speeds, time_fields

LLAMA_LIKE = ModelWork(multiplied_parameters=1000, layers=2, hidden=10, causal=True)


class Stopwatch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_part_of_a_step_gets_its_time_and_what_lies_between_steps_none():
    watch = Stopwatch()
    clock = HostClock(watch)
    for _ in range(2):
        for part, seconds in (("data", 1), ("forward", 2), ("backward", 4), ("forward", 2), ("step", 8)):
            clock.enter(part)
            watch.now += seconds
        clock.enter(None)
        watch.now += 100
    assert clock.take() == {"data": 2, "forward": 8, "backward": 8, "step": 16}
    assert sum(clock.take().values()) == 0, "what was taken is not told again"


class Mark:
    """A CUDA event of a device that a test drives: it has a time once the device came by."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        self.place = -1

    def record(self) -> None:
        self.device.queue += 1
        self.place = self.device.queue

    def query(self) -> bool:
        return self.place <= self.device.passed

    def synchronize(self) -> None:
        self.device.waits += 1
        self.device.passed = max(self.device.passed, self.place)

    def elapsed_time(self, later: "Mark") -> float:
        assert later.query(), "reading a mark that the device has not passed is an error"
        return 1000.0 * (later.place - self.place)


class Device:
    """One second lies between two marks."""

    def __init__(self) -> None:
        self.queue = self.passed = self.waits = self.made = 0

    def mark(self) -> Any:
        self.made += 1
        return Mark(self)


def test_a_gpu_is_asked_only_when_the_times_are_taken():
    device = Device()
    clock = DeviceClock(device.mark)
    for step in range(20):
        for part in ("data", "forward", "backward", "step", None):
            clock.enter(part)
        assert device.waits == 0
        device.passed = 5 * step
    assert device.made < 20, "marks that the device has passed are used again"
    assert clock.take() == {"data": 20, "forward": 20, "backward": 20, "step": 20}
    assert device.waits == 1


def test_the_flops_of_a_sequence_are_six_per_parameter_and_half_of_full_attention():
    assert LLAMA_LIKE.flops(tokens=8, pairs=64) == 6 * 1000 * 8 + 6 * 2 * 10 * 8 * 8
    encoder = LLAMA_LIKE.model_copy(update={"causal": False})
    assert encoder.flops(tokens=8, pairs=64) == 6 * 1000 * 8 + 12 * 2 * 10 * 8 * 8


def test_documents_in_one_packed_sequence_do_not_see_each_other():
    apart = StepSize(tokens=4, trained=4, pairs=16) + StepSize(tokens=4, trained=4, pairs=16)
    assert apart.pairs == 32
    assert LLAMA_LIKE.flops(tokens=8, pairs=apart.pairs) < LLAMA_LIKE.flops(tokens=8, pairs=64)


@pytest.mark.parametrize(("tied", "multiplied"), [(512, 1512), (0, 1000)])
def test_an_output_projection_counts_also_where_it_shares_the_embeddings(tied: int, multiplied: int):
    shape = ModelShape(
        kind="decoder",
        layers=2,
        hidden=8,
        ffn=32,
        heads=2,
        kv_heads=2,
        vocab=64,
        embedding_parameters=512,
        other_parameters=1000,
        tied_parameters=tied,
        product_elements=88,
    )
    assert model_work(shape).multiplied_parameters == multiplied


def test_utilisation_agrees_with_a_published_measurement():
    """MPT-7B, 8 H100, 2048 tokens: 85,144 tokens/s are 46.44 % with full attention (llm-foundry's table)."""
    work = ModelWork(multiplied_parameters=6_658_859_008, layers=32, hidden=4096, causal=True)
    for causal, expected in ((False, 0.4644), (True, 0.4471)):
        plan = SpeedPlan(peak_tflops=989, work=work.model_copy(update={"causal": causal}))
        found = utilisation(plan, tokens=85_144, pairs=85_144 * 2048, seconds=1.0, ranks=8)
        assert found == pytest.approx(expected, rel=0.002)


def test_mfu_is_told_only_where_the_peak_is_known():
    size = StepSize(tokens=100, trained=50, pairs=1000)
    assert speeds(size, 2.0, None, ranks=2) == {"tokens_per_s": 50.0, "trained_tokens_per_s": 25.0}
    plan = SpeedPlan(peak_tflops=1e-6, work=LLAMA_LIKE)
    flops = 6 * 1000 * 100 + 6 * 2 * 10 * 1000
    assert speeds(size, 2.0, plan, ranks=2)["mfu"] == pytest.approx(flops / (2.0 * 2 * 1e6))


def test_saves_and_evaluations_are_told_when_there_were_any():
    parts = {"data": 1.0, "forward": 2.0, "backward": 3.0, "step": 4.0}
    names = {"time_data_s": 1.0, "time_forward_s": 2.0, "time_backward_s": 3.0, "time_step_s": 4.0}
    assert time_fields(parts, {}) == names
    assert time_fields(parts, {"save": 5.0}) == {**names, "time_save_s": 5.0}


class _Rows:
    def __init__(self) -> None:
        self.rows: list[MetricsRow] = []

    def log_step(self, row: MetricsRow) -> None:
        self.rows.append(row)


def _meter(rows: _Rows) -> Meter:
    """On rank 0 of two; the other one had twice the loss, and holds 500 GB."""
    group: Any = SimpleNamespace(
        env=SimpleNamespace(device=torch.device("cpu"), world_size=2),
        gather_numbers=lambda mine: [mine, [2 * mine[0], 500.0, 600.0]],
    )
    engine: Any = SimpleNamespace(current_lr=lambda: 0.1, gradient_norm=lambda: float("nan"))
    tracker: Any = rows
    return Meter(engine, group, tracker, attempt=1, speed=None)


def _done(step: int) -> StepDone:
    return StepDone(step=step, sample_ids=[], size=StepSize(tokens=30, trained=10, pairs=900), applied=True)


def test_a_row_is_a_mean_over_trained_tokens_and_shows_the_fullest_rank():
    rows = _Rows()
    meter = _meter(rows)
    for step in (1, 2):
        meter.before(step)
        meter.add(torch.tensor(4.0))
        meter.after(_done(step))
    with meter.pause("save"):
        pass
    assert meter.report(Progress(step=2, samples=6, tokens=60)) == pytest.approx((8 + 16) / 20)
    meter.before(3)
    meter.after(_done(3))
    meter.report(Progress(step=3))
    first, second = rows.rows
    assert (first.memory_gb, first.peak_memory_gb, first.grad_norm) == (500.0, 600.0, None)
    assert first.time_save_s is not None
    assert second.time_save_s is None, "since the row before"
