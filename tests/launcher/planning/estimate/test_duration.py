"""How long a run takes: only where the hardware's peak is known."""

from dataclasses import replace

import pytest

from launcher.planning.estimate.duration import estimate_seconds, flops_per_token, model_work
from tests.launcher.planning.estimate.test_memory import SHAPE


def seconds(*, gpus: int = 1, recompute: bool = False, peak: float | None = 1000.0) -> float | None:
    return estimate_seconds(
        SHAPE, tokens=10**9, sequence=100, gpus=gpus, peak_tflops=peak, recompute=recompute
    )


def test_without_a_peak_nothing_is_claimed():
    assert seconds(peak=None) is None


def test_time_is_work_over_peak_at_35_percent():
    one, four, recomputed = seconds(), seconds(gpus=4), seconds(recompute=True)
    assert one == pytest.approx(10**9 * flops_per_token(SHAPE, 100) / (1e15 * 0.35))
    assert one is not None
    assert four == pytest.approx(one / 4)
    assert recomputed == pytest.approx(one * 4 / 3)


def test_embeddings_are_multiplied_where_they_are_the_output_too():
    assert model_work(SHAPE).multiplied_parameters == 1_000_000
    assert model_work(replace(SHAPE, tied_parameters=0)).multiplied_parameters == 500_000


def test_a_decoder_attends_to_half_the_pairs():
    encoder = replace(SHAPE, kind="encoder")
    weights = 6 * model_work(SHAPE).multiplied_parameters
    half, whole = (flops_per_token(shape, 100) - weights for shape in (SHAPE, encoder))
    assert whole == pytest.approx(2 * half)
