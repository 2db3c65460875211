"""Memory is that of the process that asks."""

import multiprocessing

import torch

from train.measure.memory import memory_gb

CPU = torch.device("cpu")


def test_a_forked_process_counts_its_own():
    """Asked before and after: what was just forked holds less than its parent, no pages of files."""
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def ask_before_and_after() -> None:
        before_gb, _ = memory_gb(CPU)
        held = bytearray(b"x" * 300_000_000)
        answers.put((before_gb, *memory_gb(CPU), len(held)))

    child = fork.Process(target=ask_before_and_after)
    child.start()
    before_gb, now_gb, peak_gb, _ = answers.get()
    child.join()
    assert now_gb > before_gb + 0.25
    assert peak_gb >= now_gb
