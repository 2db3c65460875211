"""The page of benchmarks says what was measured, and every benchmark can be asked what it does."""

import argparse
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, page
from benchmarks.harness import Ratio

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_is_made_of_the_numbers():
    numbers = json.loads((ROOT / "docs" / "benchmarks.json").read_text())
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page(numbers)
    assert set(numbers) == set(NAMES)


@pytest.mark.parametrize(
    ("value", "sense", "reached"),
    [(0.98, "at least", True), (0.9794, "at least", False), (1.0, "at most", False), (0.5, "at most", True)],
)
def test_a_ratio_reaches_its_target_or_not(value: float, sense, reached: bool):
    assert Ratio(what="x", value=value, sense=sense, target=0.98).reached is reached


@pytest.mark.parametrize("name", [*NAMES, "gpu"])
def test_every_benchmark_tells_what_it_does(name: str):
    benchmark = importlib.import_module(f"benchmarks.{name}")
    parser = argparse.ArgumentParser(description=benchmark.__doc__)
    benchmark.add_options(parser)
    told = parser.format_help()
    assert f"python -m benchmarks.{name}" in told
    for option in re.findall(r"\[(--[a-z-]+)", benchmark.__doc__):
        assert option in told.replace(benchmark.__doc__, ""), option
    assert benchmark.TITLE


@pytest.mark.parametrize(
    ("name", "option", "value", "said"),
    [
        ("equal", "--steps", "2", "invalid value 2: must be at least 3"),
        ("equal", "--stages", "4", "invalid choice: 4"),
        ("loss_head", "--repeats", "0", "invalid value 0: must be at least 1"),
        ("sweep", "--trials", "40", "invalid value 40: must be at least 32 and a multiple of 16"),
        ("memory", "--steps", "many", "invalid number value: 'many'"),
    ],
)
def test_too_little_to_measure_is_refused(
    name: str, option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"benchmarks.{name}").add_options(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([option, value])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from benchmarks import __main__ as benches

    monkeypatch.setattr(benches, "_QUIET_WITHIN_S", 0.0)
    monkeypatch.setattr("os.getloadavg", lambda: (5.0, 5.0, 5.0))
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    with pytest.raises(SystemExit) as ended:
        benches.main()
    assert ended.value.code == 2
    assert "--busy" in capsys.readouterr().err
