"""What makes a node unfit, from made-up numbers and from folders and programs of the test."""

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train.node.health import node_faults


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with 4 GPUs and 64 GB of free memory."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64e9))


def faults(folders: dict[str, Path] | None = None, **plan: Any) -> list[str]:
    needed: Any = SimpleNamespace(
        **{"device": "cpu", "ranks_per_node": 4, "host_gb_per_rank": None, "node_check": None, **plan}
    )
    return node_faults(needed, folders or {})


def program(folder: Path, text: str) -> str:
    path = folder / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("plan", "numbers"),
    [
        ({}, []),
        ({"device": "cuda", "ranks_per_node": 4}, []),
        ({"device": "cuda", "ranks_per_node": 5}, ["4", "5"]),
        ({"device": "cpu", "ranks_per_node": 5}, []),
        ({"host_gb_per_rank": 16.0}, []),
        ({"host_gb_per_rank": 16.1}, ["64.0", "64.4"]),
    ],
)
def test_gpus_and_memory_suffice(plan: dict[str, Any], numbers: list[str]):
    found = faults(**plan)
    assert len(found) == bool(numbers)
    for fault in found:
        assert all(number in fault for number in numbers)


def test_disks_give_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert faults({"the run directory": tmp_path}) == []
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"other bytes")
    [fault] = faults({"the run directory": tmp_path})
    assert "the run directory" in fault
    assert str(tmp_path) in fault
    assert list(tmp_path.iterdir()) == []


def test_each_disk_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "well").mkdir()
    places = {"a": tmp_path / "none", "b": tmp_path / "well", "c": tmp_path / "file"}
    found = faults(places)
    assert [name for name, place in places.items() if any(str(place) in fault for fault in found)] == [
        "a",
        "c",
    ]
    assert len(found) == 2


def test_a_disk_that_became_read_only_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    [fault] = faults({"the node's disk": tmp_path})
    assert "Read-only file system" in fault


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("exit 0", []),
        ("echo noise; exit 0", []),
        ("exit 3", ["3"]),
        ("echo out; echo err >&2; exit 1", ["1", "out", "err"]),
    ],
)
def test_the_program_of_the_site_judges(tmp_path: Path, text: str, parts: list[str]):
    found = faults(node_check=program(tmp_path, text))
    assert len(found) == bool(parts)
    for fault in found:
        assert all(part in fault for part in parts)


def test_a_program_that_cannot_run_or_does_not_end_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("train.node.health._CHECK_WITHIN_S", 0.1)
    assert len(faults(node_check=str(tmp_path / "none"))) == 1
    assert len(faults(node_check=program(tmp_path, "exec sleep 60"))) == 1


def test_all_faults_are_told_together(tmp_path: Path):
    found = faults(
        {"the run directory": tmp_path / "none"},
        device="cuda",
        ranks_per_node=8,
        host_gb_per_rank=99.0,
        node_check=program(tmp_path, "exit 1"),
    )
    assert len(found) == 4
