"""Compilation of each layer with torch.compile, and its record in the journal."""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

import torch

from train.cache import cache_dir
from train.failures import UserError
from train.journal.events import Compiled
from train.machine.toolchain import compiler_obstacle
from train.observer import StepDone, StepObserver
from train.rundir import RunDir

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """Statistics of this process's compilations."""

    layers: int
    graphs: int
    """Number of graphs. All layers share one graph per kind of input, such as with and without padding."""
    graph_breaks: dict[str, int]
    """Number of graph breaks by reason."""
    left_to_python: dict[str, int]
    """Number of calls that are not compiled, by reason, such as too many recompilations."""
    seconds: float


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the repeated blocks of a transformer, which transformers marks by their base class."""
    # Imported here because it loads torch's compiler, which would delay the start of every rank.
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def keep_compiled_code() -> None:
    """Keep compiled code in Shardline's cache, for other ranks and later attempts, unless a path is set.

    Has to be called before transformers' models or torch's compiler are imported, which fixes the path.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))


def compile_layers(model: torch.nn.Module, *, device: str) -> None:
    """Compile each layer in place, which keeps the names of parameters and DeepSpeed's hooks.

    Shapes are symbolic from the start, so that one graph serves all sequence lengths and batch sizes. The
    compilation itself happens at the first input.

    Raises:
        UserError: There is no compiler, or the model has no marked layers.
    """
    obstacle = compiler_obstacle() if device == "cpu" else None
    if obstacle:
        raise UserError(
            f"model.compile=true: {obstacle}; install it on every node, or set model.compile=false"
        )
    layers = layers_of(model)
    if not layers:
        raise UserError(
            f"model.compile=true: {type(model).__name__} has no modules that are marked as layers;"
            " set model.compile=false"
        )
    for layer in layers:
        layer.compile(dynamic=True)


def uncompiled() -> AbstractContextManager[None]:
    """Return a context that runs layers uncompiled, since evaluation inputs would cause recompilations."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


class CompilationJournal(StepObserver):
    """Records compilations in the journal, after the first step and later steps that add some. For rank 0."""

    def __init__(self, run_dir: RunDir, *, attempt: int, layers: int) -> None:
        """Create a recorder for a model with this number of layers."""
        self._run_dir = run_dir
        self._attempt = attempt
        self._layers = layers
        self._recorded = (0, 0, 0)

    def after(self, done: StepDone) -> None:
        """Record the compilations since the last record; costs nothing if there are none."""
        from torch._dynamo.utils import counters

        seen = (
            counters["stats"]["unique_graphs"],
            counters["graph_break"].total(),
            counters["unimplemented"].total(),
        )
        if seen == self._recorded:
            return
        self._recorded = seen
        compiled = compilation(self._layers)
        self._run_dir.log(Compiled(attempt=self._attempt, step=done.step, **asdict(compiled)))
        logger.info(
            "compiled %d layers by step %d in %.1f s: %d graphs, graph breaks: %s, left to Python: %s",
            compiled.layers,
            done.step,
            compiled.seconds,
            compiled.graphs,
            _in_words(compiled.graph_breaks),
            _in_words(compiled.left_to_python),
        )


def compilation(layers: int) -> Compilation:
    """Return the statistics from the compiler's counters (torch._dynamo.utils)."""
    from torch._dynamo.utils import compilation_time_metrics, counters

    return Compilation(
        layers=layers,
        graphs=counters["stats"]["unique_graphs"],
        graph_breaks=_by_first_line(counters["graph_break"]),
        left_to_python=_by_first_line(counters["unimplemented"]),
        seconds=round(sum(compilation_time_metrics.get("_compile.compile_inner", ())), 2),
    )


def _by_first_line(counts: Mapping[str, int]) -> dict[str, int]:
    """Sum counts by the first line of their reason; the other lines are hints for authors of models."""
    total: Counter[str] = Counter()
    for reason, count in counts.items():
        total[reason.strip().partition("\n")[0]] += count
    return dict(total)


def _in_words(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{reason} ({count} x)" for reason, count in reasons.items()) or "nothing"
