#!/bin/bash
#SBATCH --job-name="demo-1a2b3c4d.0f0f0f0f"
#SBATCH --nodes="2"
#SBATCH --ntasks-per-node="1"
#SBATCH --gpus-per-node="a100:4"
#SBATCH --cpus-per-task="32"
#SBATCH --mem="256G"
#SBATCH --exclusive
#SBATCH --time="90"
#SBATCH --signal="USR2@240"
#SBATCH --requeue
#SBATCH --open-mode="append"
#SBATCH --output="/shared/runs/demo-1a2b3c4d/submitit/%j_batch.out"
#SBATCH --chdir="/shared/runs/demo-1a2b3c4d/submitit"
#SBATCH --partition="gpu,gpu-long"
#SBATCH --account="lab"
#SBATCH --qos="high"
#SBATCH --constraint="a100&ib"
#SBATCH --reservation="course"
#SBATCH --nodelist="n[1-4]"
#SBATCH --exclude="n2"
#SBATCH --nice="10"
#SBATCH --dependency="afterok:12:13,singleton"
#SBATCH --licenses="abaqus:2"
#SBATCH --comment="grant 42 (b)"
#SBATCH --mail-user="me@example.org"
#SBATCH --mail-type="END,FAIL"
#SBATCH --contiguous
#SBATCH --switches="1@5:00"

export PYTHONPATH=/shared/runs/demo-1a2b3c4d/code
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
export SUBMITIT_EXECUTOR=slurm
export NCCL_SOCKET_IFNAME=ib0
export NOTE='it'"'"'s; $(so)'
module load cuda/12.4 gcc/13
ulimit -n 65536

# The signals are for the ranks; this script ignores them and waits for the ranks to end.
trap : TERM USR2
srun --kill-on-bad-exit=1 --unbuffered --output=/shared/runs/demo-1a2b3c4d/submitit/%j_%n.out --open-mode=append --cpus-per-task=32 /shared/venv/bin/python -u -m slurm.executor /shared/runs/demo-1a2b3c4d/submitit

# Decides, after any outcome above, whether the job ends or is requeued.
exec /shared/venv/bin/python -m launcher.node.epilog /shared/runs/demo-1a2b3c4d
