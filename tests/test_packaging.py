"""What a wheel installs, and that it works without a checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what git tracks, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(source)],
        check=True,
        cwd=out,
    )
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_installs_exactly_three_packages(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"launcher", "train", "slurm"}
    assert "launcher/conf/config.yaml" in names
    assert "launcher/examples/helpdesk/train.jsonl" in names
    assert {f"launcher/report/page.{kind}" for kind in ("html.j2", "css", "js")} <= set(names)


def test_every_source_file_is_in_the_wheel(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("launcher", "train", "slurm"):
        for path in (ROOT / package).rglob("*.py"):
            assert str(path.relative_to(ROOT)) in names
    for folder in ("conf", "examples"):
        tracked = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert {f"launcher/{name}" for name in tracked.stdout.split()} <= names


def test_the_installed_wheel_plans_without_a_checkout(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "launcher", "plan", "experiment=smoke", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    plan = json.loads(done.stdout)
    assert plan["ok"]
    assert plan["deepspeed"]["train_batch_size"] == 8


def test_the_tested_set_is_pinned():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    for name in ("deepspeed", "transformers", "datasets", "hydra-core", "wandb", "submitit", "pytest"):
        assert name in pins
