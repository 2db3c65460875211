"""Which rows of each role a rank uses."""

import numpy as np
import pytest

from train.config import DataRole
from train.rank.rank_data import _assessed


@pytest.mark.parametrize("role", ["test", "general"])
def test_the_assessment_takes_at_most_max_rows_evenly_spread(role: DataRole):
    numbers = np.arange(100, 200)
    assert list(_assessed(role, numbers, 4)) == [100, 133, 166, 199]
    assert len(_assessed(role, numbers, None)) == 100
    assert len(_assessed(role, numbers, 500)) == 100


@pytest.mark.parametrize("role", ["train", "held_out", "validation"])
def test_other_roles_keep_all_rows(role: DataRole):
    assert len(_assessed(role, np.arange(10), 4)) == 10
