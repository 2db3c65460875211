"""Memory of a rank: GPU memory, or host memory if it trains on the CPU."""

import resource

import psutil
import torch


def memory_gb(device: torch.device) -> tuple[float, float]:
    """Return current and peak memory of this rank in GB (10^9 bytes): tensors on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e9, torch.cuda.max_memory_allocated(device) / 1e9
    # Not cached: a rank is forked from the process that imported this module.
    now_gb = psutil.Process().memory_info().rss / 1e9
    # The kernel updates the peak later than the current value.
    return now_gb, max(now_gb, peak_resident_gb())


def peak_resident_gb() -> float:
    """Return the peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
