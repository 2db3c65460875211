"""A real Slurm on one machine: to try Shardline without a cluster, and what the cluster tests run on.

`layout.py` says what it looks like, `packages.py` what it needs, `daemons.py` starts and stops processes, and
`cluster.py` brings the whole up and takes it down. Everything lives in one directory.
"""
