"""Knows tensors: data, model, loop, checkpoints, evaluation. Never Slurm, Hydra or submitit."""
