"""The state of runs and sweeps, from their records and the Slurm queue."""
