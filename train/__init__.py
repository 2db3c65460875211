"""The training code: data, model, loop, checkpoints, evaluation. Imports no Slurm, Hydra or submitit."""
