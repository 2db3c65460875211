"""torch.compile on layers: what is refused, and what is told of graphs, breaks and limits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo import config as dynamo_config
from torch._dynamo import graph_break, reset
from torch._dynamo.utils import compilation_time_metrics, counters
from transformers import AutoModel, BertConfig

from train.failures import UserError
from train.machine.toolchain import compiler_obstacle
from train.model.compiling import CompilationJournal, compile_layers, keep_compiled_code, layers_of
from train.observer import StepDone, StepSize
from train.rundir import RunDir, read_lines


class Layer(torch.nn.Module):
    """Breaks its graph on demand, and is compiled anew for every mode."""

    def forward(self, values: torch.Tensor, mode: str) -> torch.Tensor:
        if mode == "broken":
            values = values + 1
            graph_break()
        return values * len(mode)


@pytest.fixture
def layer():
    """A compiled layer and a compiler that has seen nothing yet."""
    reset()
    counters.clear()
    compilation_time_metrics.clear()
    made = Layer()
    made.compile(backend="eager", dynamic=True)
    yield made
    reset()
    counters.clear()


def bert() -> torch.nn.Module:
    shape = BertConfig(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=3)
    return AutoModel.from_config(shape)


def test_graphs_breaks_and_limits_are_journaled_when_there_are_new_ones(tmp_path: Path, layer: Layer):
    run = RunDir(tmp_path)
    journal = CompilationJournal(run, attempt=2, layers=1)
    values = torch.ones(4)
    with dynamo_config.patch(recompile_limit=2):
        for step, mode in enumerate(("whole", "whole", "broken", "one too many"), 1):
            layer(values, mode)
            journal.after(StepDone(step=step, sample_ids=[], size=StepSize(), applied=True))
    rows = list(read_lines(run.events))
    assert [(row["event"], row["attempt"], row["step"], row["layers"]) for row in rows] == [
        ("compiled", 2, 1, 1),
        ("compiled", 2, 3, 1),
        ("compiled", 2, 4, 1),
    ]
    whole, broken, limit = rows
    assert (whole["graphs"], whole["graph_breaks"], whole["left_to_python"]) == (1, {}, {})
    assert whole["seconds"] > 0
    [(reason, count)] = broken["graph_breaks"].items()
    assert "graph_break" in reason
    assert "\n" not in reason
    assert count == 1
    assert broken["graphs"] > 1
    [reason] = limit["left_to_python"]
    assert "recompile limit" in reason.lower()


def test_a_model_is_compiled_in_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", sys.executable)
    model = bert()
    names = list(model.state_dict())
    compile_layers(model, device="cpu")
    assert len(layers_of(model)) == 3
    assert list(model.state_dict()) == names


def test_compiled_code_lives_in_the_cache_or_where_the_user_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("SHARDLINE_CACHE", str(tmp_path))
    for said, place in ((None, str(tmp_path / "compiled")), ("/elsewhere", "/elsewhere")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", said or "")
        if said is None:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        keep_compiled_code()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == place


def test_without_a_compiler_or_layers_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in (compiler_obstacle() or "")
    with pytest.raises(UserError, match="no-such-compiler is not in PATH"):
        compile_layers(bert(), device="cpu")
    with pytest.raises(UserError, match="Linear has no modules that are marked as layers"):
        compile_layers(torch.nn.Linear(2, 2), device="cuda")


def test_nothing_of_ours_loads_the_compiler_unasked():
    """What transformers' own models import, once one is built, is not ours to say."""
    probe = """
import sys
import train.rank.setup, train.engine.muon
train.engine.muon.import_muon_uncompiled()
loaded = [name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
