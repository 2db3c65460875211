"""Fused kernels: the list of them, the choice for a run, and the check against their references."""
