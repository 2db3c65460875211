"""What a rank does not import, in a process of its own."""

import subprocess
import sys

SCRIPT = """
import sys
from train.rank.lean_imports import leave_out_detection_losses
leave_out_detection_losses()
import train.rank.setup
from transformers import LlamaForCausalLM
assert "scipy" not in sys.modules, "transformers found scipy all the same"
from scipy.optimize import linear_sum_assignment
"""


def test_a_rank_has_no_scipy_until_it_asks_for_it():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
