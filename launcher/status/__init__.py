"""The state of runs and sweeps, from their records and Slurm's queue."""
