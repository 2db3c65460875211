"""Which checkpoint a start takes, with real ranks and real files, whatever is damaged or gone."""

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.multiprocess.ranks import run_ranks

RANKS = 2
STEPS = (1, 2, 3)
Answer = tuple[int, bool, list[str]]
"""The step that was resumed from, whether the weights are that step's, and what was skipped and why."""

POINTERS: dict[str, Callable[[Path], object]] = {
    "empty": lambda root: (root / "latest").write_text(""),
    "missing": lambda root: (root / "latest").unlink(),
    "garbage": lambda root: (root / "latest").write_bytes(b"\x00\xff" * 40),
    "to nowhere": lambda root: (root / "latest").write_text("step_77\n"),
    "to an old one": lambda root: (root / "latest").write_text("step_1\n"),
}
"""What may have happened to the pointer while all checkpoints are whole."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """One group of ranks resumes again and again, each time after another accident."""
    folder = tmp_path_factory.mktemp("restoring")
    return run_ranks(resume_after_each_accident, RANKS, str(folder))[0]


@pytest.mark.parametrize("accident", POINTERS)
def test_the_pointer_decides_nothing(answers: dict[str, Answer], accident: str):
    assert answers[f"pointer {accident}"] == (3, True, [])


def test_where_the_newest_was_deleted_or_torn_the_one_before_is_taken(answers: dict[str, Answer]):
    """`latest` points to it all the same."""
    assert answers["deleted"] == (2, True, [])
    for accident, told in (("torn", "bytes instead of"), ("one file missing", "is missing")):
        step, same, [why] = answers[accident]
        assert (step, same) == (2, True)
        assert why.startswith("step_3: shards/")
        assert told in why
    assert answers["two damaged"][:2] == (1, True)
    assert [why.split(":")[0] for why in answers["two damaged"][2]] == ["step_3", "step_2"]


def test_one_byte_flipped_in_any_file_is_skipped_with_its_name(answers: dict[str, Answer]):
    flipped = {name.removeprefix("flipped "): entry for name, entry in answers.items() if "flipped" in name}
    kinds = ("manifest.json", "progress.json", "latest", "model_states.pt", "optim_states.pt")
    assert all(any(name.endswith(kind) for name in flipped) for kind in kinds), sorted(flipped)
    for name, (step, same, why) in flipped.items():
        told = name if name == "manifest.json" else f"{name} was changed after the commit"
        assert (step, same) == (2, True), name
        assert len(why) == 1, name
        assert why[0].startswith(f"step_3: {told}"), why


def resume_after_each_accident(rank: int, folder: str) -> dict[str, Answer]:
    """On every rank: train and save three times, then damage, resume and mend, over and over."""
    import torch

    from train.checkpoint.progress import Progress, Topology
    from train.checkpoint.restoring import Restorer
    from train.checkpoint.saving import Saver
    from train.checkpoint.scope import CheckpointScope
    from train.checkpoint.store import CheckpointStore
    from train.config import CheckpointConfig
    from train.dist import DistEnv, Group
    from train.faults import NO_FAULTS
    from train.rundir import RunDir, read_lines

    run_dir = RunDir(Path(folder))
    group = Group(DistEnv.from_environ("cpu"))
    engine = _engine()
    scope = CheckpointScope(
        run_dir=run_dir,
        group=group,
        store=CheckpointStore(run_dir.checkpoints),
        topology=Topology(world_size=RANKS, zero_stage=2, precision="bf16"),
        attempt=1,
        faults=NO_FAULTS,
    )
    saver = Saver(scope, CheckpointConfig(keep_last=len(STEPS)))
    weights = {}
    for step in STEPS:
        engine.backward(
            engine.module(torch.full((2, 8), float(step), dtype=torch.bfloat16)).square().sum(), 1
        )
        engine.step(0.01)
        weights[step] = [parameter.detach().clone() for parameter in engine.module.parameters()]
        saver.save(engine, Progress(step=step, samples=4 * step))
        saver.join()

    def resume_after(accident: Callable[[Path], object]) -> Answer:
        whole = run_dir.root / "whole"
        seen = len(list(read_lines(run_dir.events)))
        group.barrier()
        if group.env.is_main:
            shutil.copytree(run_dir.checkpoints, whole)
            accident(run_dir.checkpoints)
        group.barrier()
        step = Restorer(scope).resume(engine).progress.step
        group.barrier()
        rows = list(read_lines(run_dir.events))[seen:]
        if group.env.is_main:
            shutil.rmtree(run_dir.checkpoints)
            whole.rename(run_dir.checkpoints)
        same = all(
            torch.equal(now, then)
            for now, then in zip(engine.module.parameters(), weights[step], strict=True)
        )
        skipped = [
            why
            for row in rows
            if row["event"] == "skipped_checkpoints"
            for why in re.split("; (?=step_)", row["reason"])
        ]
        return step, all(group.gather(same)), skipped

    newest = scope.store.path(STEPS[-1])
    files = group.from_main(sorted(str(p.relative_to(newest)) for p in newest.rglob("*") if p.is_file()))
    shard = next(name for name in files if name.endswith("optim_states.pt"))
    accidents = (
        {f"pointer {name}": damage for name, damage in POINTERS.items()}
        | {f"flipped {name}": _flip(f"step_3/{name}") for name in files}
        | {
            "deleted": lambda root: shutil.rmtree(root / "step_3"),
            "torn": lambda root: (root / "step_3" / shard).write_bytes(b"torn"),
            "one file missing": lambda root: (root / "step_3" / shard).unlink(),
            "two damaged": lambda root: [_flip(f"step_{step}/{shard}")(root) for step in (2, 3)],
        }
    )
    found = {name: resume_after(accident) for name, accident in accidents.items()}
    group.close()
    return found


def _flip(name: str) -> Callable[[Path], object]:
    def flip(root: Path) -> None:
        data = bytearray((root / name).read_bytes())
        data[len(data) // 2] ^= 1
        (root / name).write_bytes(data)

    return flip


def _engine():
    import torch

    from train.config import OptimConfig
    from train.engine.engine import Engine
    from train.model.optim import build_optimizer

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *itertools.chain(*((torch.nn.Linear(8, 8), torch.nn.Tanh()) for _ in range(2)))
    )
    model = model.to(torch.bfloat16)
    config = {
        "train_batch_size": RANKS,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 2, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": True},
        "steps_per_print": 2**31 - 1,
    }
    return Engine(model, build_optimizer(model, OptimConfig()), config, causal=True, world_size=RANKS)
