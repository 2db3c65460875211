"""Freed host memory goes back to the system."""

import subprocess
import sys

# Large blocks between small ones that stay: nothing of it is at the heap's end. The first one, freed, is what
# makes glibc take the others from its heap.
HOLES = """
import os
import torch
from train.memory import give_back_freed, memory_gb

def megabytes(number):
    return torch.ones(number * 250_000)

{call}
megabytes(33)
before_gb, _ = memory_gb(torch.device("cpu"))
kept = [(megabytes(20), megabytes(1)) for _ in range(20)]
kept = [small for _, small in kept]
print(memory_gb(torch.device("cpu"))[0] - before_gb)
"""


def kept_gb(call: str, **environ: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", HOLES.format(call=call)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def test_blocks_between_others_are_given_back():
    assert kept_gb("") > 0.3, "glibc keeps none of it: there is nothing to prove"
    assert kept_gb("give_back_freed()") < 0.1


def test_what_the_user_tunes_stays():
    user = {"MALLOC_MMAP_THRESHOLD_": str(2**30)}
    assert kept_gb("give_back_freed()", **user) > 0.3
