"""Fused kernels: which there are, when each engages, and the proof that it computes what it replaces."""
