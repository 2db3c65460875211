"""Memory that a rank takes: of its GPU, or of the host where it trains on the CPU."""

import resource

import psutil
import torch


def memory_gb(device: torch.device) -> tuple[float, float]:
    """GB (10^9 bytes) that this rank holds now, and held at most: tensors on a GPU, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e9, torch.cuda.max_memory_allocated(device) / 1e9
    # Asked for anew: a process that was forked after an import is not the one that imported.
    now_gb = psutil.Process().memory_info().rss / 1e9
    # The kernel counts the peak a little later than it counts pages.
    return now_gb, max(now_gb, peak_resident_gb())


def peak_resident_gb() -> float:
    """Host memory that this process held at most, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
