"""torch.compile, layer by layer, and what it made of them."""

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
    """What this process has compiled so far."""

    layers: int
    graphs: int
    """Of all layers together: they share one for each form of input, such as with and without padding."""
    graph_breaks: dict[str, int]
    """By reason: how often Python goes on between two compiled pieces."""
    left_to_python: dict[str, int]
    """By reason: what is not compiled at all, such as forms of input beyond the limit of recompilations."""
    seconds: float


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks that a transformer repeats, as transformers marks them."""
    # Not above: it loads the compiler, and every rank's start would wait for that.
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def keep_compiled_code() -> None:
    """Share it with other ranks and later attempts, through the cache, unless the user has named a place.

    Before any model is built: what transformers imports then makes torch settle on a place of its own.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))


def compile_layers(model: torch.nn.Module, *, device: str) -> None:
    """Compile each layer where it stands: names of parameters and hooks of DeepSpeed stay as they are.

    Shapes are symbols from the start, so that one graph serves every sequence length and batch size.
    Compiling itself waits for the first input.

    Raises:
        UserError: nothing can be compiled here, or this model has no such layers.
    """
    obstacle = compiler_obstacle() if device == "cpu" else None
    if obstacle:
        raise UserError(f"model.compile=true: {obstacle}; install it on every node, or set it to false")
    layers = layers_of(model)
    if not layers:
        raise UserError(
            f"model.compile=true: {type(model).__name__} marks no modules as its layers; set it to false"
        )
    for layer in layers:
        layer.compile(dynamic=True)


def uncompiled() -> AbstractContextManager[None]:
    """Run layers as they are written: scoring and generating would compile for inputs of their own."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


class CompilationJournal(StepObserver):
    """Tells what was compiled, after the first step and whenever a later one added to it. For rank 0."""

    def __init__(self, run_dir: RunDir, *, attempt: int, layers: int) -> None:
        """Nothing was told yet."""
        self._run_dir = run_dir
        self._attempt = attempt
        self._layers = layers
        self._told = (0, 0, 0)

    def after(self, done: StepDone) -> None:
        """Look at the compiler's counters, which cost nothing where they stand still."""
        from torch._dynamo.utils import counters

        seen = (
            counters["stats"]["unique_graphs"],
            counters["graph_break"].total(),
            counters["unimplemented"].total(),
        )
        if seen == self._told:
            return
        self._told = seen
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
    """From the compiler's own counters (torch._dynamo.utils)."""
    from torch._dynamo.utils import compilation_time_metrics, counters

    return Compilation(
        layers=layers,
        graphs=counters["stats"]["unique_graphs"],
        graph_breaks=_by_first_line(counters["graph_break"]),
        left_to_python=_by_first_line(counters["unimplemented"]),
        seconds=round(sum(compilation_time_metrics.get("_compile.compile_inner", ())), 2),
    )


def _by_first_line(counts: Mapping[str, int]) -> dict[str, int]:
    """A reason goes on with hints and links for whoever writes the model."""
    total: Counter[str] = Counter()
    for reason, count in counts.items():
        total[reason.strip().partition("\n")[0]] += count
    return dict(total)


def _in_words(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{reason} ({count} x)" for reason, count in reasons.items()) or "nothing"
