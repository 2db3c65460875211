"""The environment variables of ranks: what all of a node share, and what tells them apart."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from train.dist import DistEnv
from train.node.environment import node_environment, rank_environment
from train.rank_environment import RankStart


def plan(device: str = "cpu", nodes: int = 2, ranks_per_node: int = 4) -> Any:
    return SimpleNamespace(device=device, nodes=nodes, ranks_per_node=ranks_per_node)


@pytest.mark.parametrize(("ranks", "threads"), [(1, "8"), (3, "2"), (16, "1")])
def test_ranks_share_the_cores_of_a_node(monkeypatch: pytest.MonkeyPatch, ranks: int, threads: str):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert node_environment(plan(ranks_per_node=ranks), {})["OMP_NUM_THREADS"] == threads


def test_ranks_inherit_all_but_what_a_run_decides():
    given = {"PATH": "/bin", "HF_HUB_OFFLINE": "0", "CUDA_VISIBLE_DEVICES": "2,3"}
    for device, visible in (("cuda", "2,3"), ("cpu", "")):
        found = node_environment(plan(device), given)
        assert (found["PATH"], found["HF_HUB_OFFLINE"]) == ("/bin", "1")
        assert (found["DS_ACCELERATOR"], found["CUDA_VISIBLE_DEVICES"]) == (device, visible)


def test_cpu_ranks_use_huge_pages_unless_the_user_decided():
    assert node_environment(plan("cpu"), {})["THP_MEM_ALLOC_ENABLE"] == "1"
    assert node_environment(plan("cpu"), {"THP_MEM_ALLOC_ENABLE": "0"})["THP_MEM_ALLOC_ENABLE"] == "0"
    assert "THP_MEM_ALLOC_ENABLE" not in node_environment(plan("cuda"), {})


def test_a_rank_finds_its_place(monkeypatch: pytest.MonkeyPatch):
    start = RankStart(attempt=3, restart=1)
    environ = rank_environment(
        plan(), node=1, local_rank=2, endpoint="node-0:4711", run_id="run-1", start=start
    )
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    place = DistEnv.from_environ("cpu")
    assert (place.rank, place.local_rank, place.world_size) == (6, 2, 8)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("node-0", "4711")
    assert RankStart.from_environ(environ) == start
