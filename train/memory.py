"""Memory that a rank takes: of its GPU, or of the host where it trains on the CPU."""

import ctypes
import os
import resource

import psutil
import torch

_THIS_PROCESS = psutil.Process()
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
_SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def give_back_freed(*, blocks_from_mib: float = 2, top_from_mib: float = 64) -> None:
    """Have freed memory of this process return to the system, unless the user's environment tunes malloc.

    Left alone, glibc serves blocks of up to 32 MiB from its heap as soon as one of that size was freed.
    Activations of many sizes then leave holes that no other fits: SmolLM2-135M at 3 x 1,024 tokens came to
    3.8 GB in some runs and to 4.6 GB in others, and comes to 3.7 GB. Smaller blocks stay with the heap, where
    taking them costs no page faults.
    No effect with another malloc than glibc's.

    Args:
        blocks_from_mib: Blocks of this size get pages of their own, which go when they are freed.
        top_from_mib: So much free memory at the heap's end goes too.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and not os.environ.keys() & set(_SET_BY_USER):
        libc.mallopt(_M_MMAP_THRESHOLD, int(blocks_from_mib * 2**20))
        libc.mallopt(_M_TRIM_THRESHOLD, int(top_from_mib * 2**20))


def memory_gb(device: torch.device) -> tuple[float, float]:
    """GB (10^9 bytes) that this rank holds now, and held at most: tensors on a GPU, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e9, torch.cuda.max_memory_allocated(device) / 1e9
    now_gb = _THIS_PROCESS.memory_info().rss / 1e9
    # The kernel counts the peak a little later than it counts pages.
    return now_gb, max(now_gb, peak_resident_gb())


def peak_resident_gb() -> float:
    """Host memory that this process held at most, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
