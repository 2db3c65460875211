"""Memory is that of the process that asks."""

import multiprocessing

import torch

from train.memory import memory_gb

CPU = torch.device("cpu")


def test_a_forked_process_counts_its_own():
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def ask_with_more() -> None:
        held = bytearray(b"x" * 300_000_000)
        answers.put((*memory_gb(CPU), len(held)))

    child = fork.Process(target=ask_with_more)
    child.start()
    now_gb, peak_gb, _ = answers.get()
    child.join()
    mine_gb, _ = memory_gb(CPU)
    assert now_gb > mine_gb + 0.1
    assert peak_gb >= now_gb
