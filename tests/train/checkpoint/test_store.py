"""The checkpoint directory without ranks: commit, judge, prune."""

import json
import os
import shutil
from pathlib import Path

import pytest

from train.checkpoint.manifest import MANIFEST, Manifest, inspect, record, verify
from train.checkpoint.store import CheckpointStore


def commit(store: CheckpointStore, step: int) -> Path:
    staging = store.stage(step)
    (staging / "shards").mkdir()
    (staging / "shards" / "rank_0.pt").write_bytes(bytes(range(200)) + str(step).encode())
    files = {"shards/rank_0.pt": record(staging / "shards" / "rank_0.pt")}
    manifest = Manifest(
        step=step,
        samples=step,
        attempt=1,
        world_size=1,
        zero_stage=0,
        precision="fp32",
        optimizer_step=float(step),
        loss=None,
        time=0.0,
        versions={},
        files=files,
    )
    return store.commit(staging, manifest)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def test_what_was_committed_is_found_and_verified(store: CheckpointStore):
    for step in (2, 10):
        commit(store, step)
    assert [verdict.path.name for verdict in store.verdicts()] == ["step_10", "step_2"]
    assert all(verify(verdict).usable for verdict in store.verdicts())
    assert (store.root / "latest").read_text() == "step_10\n"


def test_a_stage_that_was_never_committed_is_no_checkpoint(store: CheckpointStore):
    commit(store, 1)
    store.stage(2)
    assert store.steps() == [1]
    store.discard_staging()
    assert sorted(path.name for path in store.root.iterdir()) == ["latest", "step_1"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda p: (p / MANIFEST).unlink(), "not committed: manifest.json is missing"),
        (lambda p: (p / MANIFEST).write_text("{"), "manifest.json cannot be read"),
        (lambda p: (p / "shards" / "rank_0.pt").unlink(), "shards/rank_0.pt is missing"),
        (
            lambda p: (p / "shards" / "rank_0.pt").write_bytes(b"x"),
            "shards/rank_0.pt has 1 bytes instead of 201",
        ),
    ],
)
def test_damage_is_named(store: CheckpointStore, damage, why: str):
    path = commit(store, 3)
    damage(path)
    assert inspect(path).problem == why


def test_one_flipped_bit_is_found_by_reading(store: CheckpointStore):
    path = commit(store, 3)
    file = path / "shards" / "rank_0.pt"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    assert inspect(path).usable
    assert verify(inspect(path)).problem == "shards/rank_0.pt was changed after the commit"


def test_one_flipped_bit_anywhere_in_the_manifest_is_found(store: CheckpointStore):
    """Its numbers steer a resume: the step, the ranks, AdamW's count."""
    manifest = commit(store, 3) / MANIFEST
    whole = manifest.read_bytes()
    for place in range(len(whole)):
        manifest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "manifest.json" in (inspect(store.path(3)).problem or ""), f"byte {place}"
    manifest.write_bytes(whole)
    assert inspect(store.path(3)).usable


def test_pruning_keeps_the_newest_and_the_best(store: CheckpointStore):
    for step in (1, 2, 3, 4):
        commit(store, step)
    assert store.prune(keep_last=2, keep_every=None, best_step=1) == [2]
    assert store.steps() == [4, 3, 1]


def test_pruning_counts_usable_ones_only(store: CheckpointStore):
    for step in (1, 2):
        commit(store, step)
    (store.path(2) / MANIFEST).unlink()
    assert store.prune(keep_last=1, keep_every=None, best_step=None) == []
    assert store.steps() == [2, 1]


def test_pruning_follows_no_link(store: CheckpointStore, tmp_path: Path):
    commit(store, 5)
    outside = tmp_path / "outside"
    shutil.copytree(store.path(5), outside)
    (store.root / "step_1").symlink_to(outside)
    commit(store, 6)
    store.prune(keep_last=1, keep_every=None, best_step=None)
    assert (outside / MANIFEST).exists()


def test_the_manifest_names_size_and_hash(store: CheckpointStore):
    path = commit(store, 1)
    files = json.loads((path / MANIFEST).read_text())["files"]
    assert files["shards/rank_0.pt"]["size"] == 201
    assert len(files["shards/rank_0.pt"]["sha256"]) == 64


def test_what_another_could_have_written_is_not_read(store: CheckpointStore, tmp_path: Path):
    shard = commit(store, 3) / "shards" / "rank_0.pt"
    shard.chmod(0o666)
    assert inspect(store.path(3)).problem == "shards/rank_0.pt is writable by everyone"
    shard.chmod(0o600)
    assert inspect(store.path(3)).usable
    if os.geteuid() == 0:
        os.chown(shard, 12345, -1)
        assert inspect(store.path(3)).problem == "shards/rank_0.pt belongs to another user"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(elsewhere)
    assert inspect(store.path(3)).problem == "shards/rank_0.pt is not a regular file"
