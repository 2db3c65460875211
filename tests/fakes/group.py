"""A process group of threads: collectives are tested with several ranks, without starting a process."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from train.dist import DistEnv

T = TypeVar("T")
_WITHIN_S = 10.0


class ThreadGroup:
    """The collectives of `train.dist.Group` for one of several threads."""

    def __init__(self, rank: int, boxes: list[Any], meeting: threading.Barrier) -> None:
        self.env = DistEnv(rank=rank, local_rank=rank, world_size=len(boxes), device=torch.device("cpu"))
        self._boxes = boxes
        self._meeting = meeting

    def gather(self, value: Any) -> list[Any]:
        self._boxes[self.env.rank] = value
        self._meeting.wait(_WITHIN_S)
        found = list(self._boxes)
        # The next collective must not change what a slower rank has not read yet.
        self._meeting.wait(_WITHIN_S)
        return found

    def from_main(self, value: Any) -> Any:
        return self.gather(value)[0]

    def sum(self, values: Sequence[float]) -> list[float]:
        return [sum(column) for column in zip(*self.gather(list(values)), strict=True)]

    def any(self, *flags: bool) -> list[bool]:
        return [any(column) for column in zip(*self.gather(flags), strict=True)]

    def barrier(self) -> None:
        self.gather(None)


def on_ranks(count: int, function: Callable[[Any], T]) -> list[T]:
    """Call a function with the group of each of so many ranks, all at the same time; what each returned.

    A rank that raises lets no other wait.
    """
    boxes: list[Any] = [None] * count
    meeting = threading.Barrier(count)

    def rank(number: int) -> T:
        try:
            return function(ThreadGroup(number, boxes, meeting))
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        ranks = [pool.submit(rank, number) for number in range(count)]
    errors = [error for entry in ranks if (error := entry.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [entry.result() for entry in ranks]
