"""What planning finds on this machine, and that it looks once."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.compose.run import compose_run
from launcher.config import RunConfig
from launcher.planning.facts import machine
from launcher.planning.facts.data import look_at_data
from launcher.planning.facts.machine import Observer, count_gpus, driver_version

NVIDIA_SMI = """#!/bin/sh
case "$1" in
  -L) echo "GPU 0: H100"; echo "  MIG 1g.10gb"; echo "GPU 1: H100" ;;
  --query-gpu=memory.total) echo 81559; echo 40960 ;;
  --query-gpu=driver_version) echo 550.54; echo 550.54 ;;
esac
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that lists two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("0", 1), ("3,1,2", 3), ("GPU-ab, GPU-cd", 2)]
)
@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_counted_as_a_process_would_see_them(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_a_machine_without_nvidia_smi_has_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (count_gpus(), driver_version()) == (0, None)


@pytest.mark.usefixtures("two_gpus")
def test_the_smallest_gpu_limits_and_the_driver_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = compose_run(["experiment=smoke", f"runs_dir={tmp_path}/a/b"]).config
    facts, problems = Observer().gather(config)
    assert not problems
    assert facts.visible_gpus == 2
    assert facts.gpu_mem_gb == pytest.approx(40960 * 2**20 / 1e9)
    assert facts.runs_place == tmp_path, "the nearest folder that exists"
    assert driver_version() == "550.54"


def test_what_two_configs_share_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch, write_rows: Callable[..., Path], tmp_path: Path
):
    looks = []

    def counted(config: RunConfig) -> object:
        looks.append(config.name)
        return look_at_data(config)

    monkeypatch.setattr(machine, "look_at_data", counted)
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    observer = Observer()
    for overrides in (["optim.lr=1e-4"], ["optim.lr=2e-4"], [f"model.chat_template={template}"]):
        facts, _ = observer.gather(compose_run(["experiment=smoke", *overrides]).config)
    assert len(looks) == 1
    assert facts.chat_template == "{{ messages }}"
    rows = write_rows("bad.jsonl", [{"text": "x"}])
    config = compose_run(["experiment=smoke", f"data.train={rows}", "cv.folds=2"]).config
    facts, problems = observer.gather(config)
    assert len(looks) == 2
    assert facts.fold is None, "folds of unsound rows are not drawn"
    assert {problem.code for problem in problems} == {"data.row"}
