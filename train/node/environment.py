"""The environment variables of the ranks of a node. Torch-free."""

import os
from collections.abc import Mapping

from train.job import TrainPlan
from train.kernels.ops import extensions_folder
from train.rank_environment import RankStart


def node_environment(plan: TrainPlan, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that is equal for all ranks of a node and all starts.

    Args:
        plan: The plan of the run.
        environ: The environment of the node agent, which ranks inherit.
    """
    cores = len(os.sched_getaffinity(0))
    found = {
        **environ,
        "OMP_NUM_THREADS": str(max(1, cores // plan.ranks_per_node)),
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_EXTENSIONS_DIR": str(extensions_folder()),
        # The plan checked that model and data are local, so no hub is needed at run time.
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        # Otherwise DeepSpeed looks for a device during its import.
        "DS_ACCELERATOR": plan.device,
    }
    if plan.device == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
        # Torch then allocates tensors of 2 MB and more in huge pages: a page fault for every 4 KB of
        # activations and gradients takes up to a third of a step.
        found.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    return found


def rank_environment(
    plan: TrainPlan, *, node: int, local_rank: int, endpoint: str, run_id: str, start: RankStart
) -> dict[str, str]:
    """Return the environment of one rank: torchrun's variables for torch and DeepSpeed, and our own.

    Args:
        plan: The plan of the run.
        node: The number of the node.
        local_rank: The number of the rank on its node.
        endpoint: The address at which rank 0 hosts the store of this start.
        run_id: Identifies this start of the ranks.
        start: The numbers of the attempt and of the restart.
    """
    host, _, port = endpoint.rpartition(":")
    return {
        "RANK": str(node * plan.ranks_per_node + local_rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(plan.nodes * plan.ranks_per_node),
        "LOCAL_WORLD_SIZE": str(plan.ranks_per_node),
        "GROUP_RANK": str(node),
        "GROUP_WORLD_SIZE": str(plan.nodes),
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        **start.as_environ(),
    }
