"""The arithmetic of a global batch."""

import pytest

from train.batch import solve_batch


@pytest.mark.parametrize(("ranks", "micro", "accumulation"), [(1, 1, 8), (2, 2, 2), (4, 2, 1)])
def test_ranks_times_micro_batch_times_accumulation_is_the_global_batch(
    ranks: int, micro: int, accumulation: int
):
    assert (
        solve_batch(global_batch_size=8, micro_batch_size=micro, world_size=ranks).accumulation
        == accumulation
    )
