"""Functions run on real gloo ranks, for what a whole run would hide."""

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.multiprocess.forked import Forked, free_port, rank_environ

_WITHIN_S = 900.0


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Call `function(rank, *arguments)` on every rank; returns what each returned."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answers = [folder / f"answer_{rank}" for rank in range(world_size)]
        logs = [folder / f"rank_{rank}.log" for rank in range(world_size)]
        ranks = Forked(
            _answer,
            [(answers[rank], function, rank, *arguments) for rank in range(world_size)],
            [rank_environ(rank, world_size, port) for rank in range(world_size)],
            logs,
        )
        codes = ranks.codes(_WITHIN_S)
        printed = "\n".join(log.read_text()[-2000:] for log in logs)
        assert not any(codes), f"exit codes of the ranks: {codes}\n{printed}"
        return [pickle.loads(answer.read_bytes()) for answer in answers]


def load_on_rank(
    directory: str, *overrides: str, global_batch_size: int, world_size: int
) -> tuple[Any, Any, dict[str, Any], object]:
    """A rank's model as a run of `experiment=smoke` with these overrides loads it from a directory.

    Returns:
        Its config, the model, DeepSpeed's settings, and what must live as long as the model.
    """
    from launcher.compose.run import compose_run
    from train.batch import solve_batch
    from train.kernels.table import Site, choose
    from train.model.load import load_model
    from train.zero import deepspeed_config

    config = compose_run(["experiment=smoke", *overrides]).config
    batch = solve_batch(
        global_batch_size=global_batch_size,
        micro_batch_size=config.train.micro_batch_size,
        world_size=world_size,
    )
    deepspeed = deepspeed_config(config, batch, device="cpu")
    site = Site(device="cpu", family="llama", task="causal", installed=lambda _: False)
    kernels = choose(config.wanted_kernels, site)[0]
    model, keep = load_model(
        Path(directory), config.model, kernels, precision=config.train.precision, deepspeed=deepspeed
    )
    return config, model, deepspeed, keep


def _answer(answer: Path, function: Callable[..., Any], rank: int, *arguments: Any) -> None:
    answer.write_bytes(pickle.dumps(function(rank, *arguments)))
