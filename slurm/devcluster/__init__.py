"""A real Slurm on one machine, to try Shardline without a cluster and to run the cluster tests.

`layout.py` has its files and configuration, `packages.py` its programs, `daemons.py` starts and stops
processes, and `cluster.py` starts and removes the whole cluster. All its files are in one directory.
"""
