"""What every tier shares: private runs and caches, the command, and data files made for a test."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.tiers import TierScheduling, seconds_by_tier, slowest_first
from train.cache import cache_dir

ROOT = Path(__file__).resolve().parent.parent
# Read when torch is imported. Workers and ranks share the cores: a thread that spins while it waits for
# another takes the core that the other needs, and a step then takes seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slowest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> TierScheduling:
    return TierScheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long each tier took, on all workers together."""
    entries = [entry for entries in terminalreporter.stats.values() for entry in entries]
    reports = [entry for entry in entries if isinstance(entry, pytest.TestReport)]
    for tier, (tests, seconds) in seconds_by_tier(reports).items():
        terminalreporter.write_line(f"{tier}: {tests} tests, {seconds:.0f} s of all workers together")


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory):
    """Prepared data and models of the tests stay out of the user's cache, and are made once a session."""
    cache = tmp_path_factory.mktemp("cache")
    # Compiled code depends on machine and versions only: a minute of compiling serves many sessions.
    builds = cache_dir() / "extensions"
    builds.mkdir(parents=True, exist_ok=True, mode=0o700)
    (cache / "extensions").symlink_to(builds)
    os.environ["SHARDLINE_CACHE"] = str(cache)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root of runs for each test."""
    root = tmp_path / "runs"
    monkeypatch.setenv("SHARDLINE_RUNS", str(root))
    return root


@pytest.fixture
def shardline(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run from an empty folder as a user would."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, cwd=folder, environ={**os.environ, **environ})

    return run


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """A .jsonl file of these rows."""

    def write(name: str, rows: list[object]) -> Path:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def conversation(question: str, answer: str) -> dict[str, list[dict[str, str]]]:
    """A row in `messages` form."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
