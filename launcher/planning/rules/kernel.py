"""Rules for what computes a model: the kernels that are named, and compiled layers."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from launcher.planning.plan import choose_kernels, place
from train.kernels.table import config_key, reference_of


def engages(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A kernel that is asked for by name can be had."""
    for kernel, obstacle in choose_kernels(config, facts)[1].items():
        field = config_key(kernel)
        name = config.wanted_kernels[kernel]
        yield Problem(
            code="model.attention" if kernel == "attention" else "kernels.missing",
            field=field,
            message=f"{field}={name}: it {obstacle}",
            fix=f"set {field}=auto to take it where it can be had, or {reference_of(kernel)}",
        )


def compiles(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Layers that are to be compiled can be."""
    if not config.model.compile:
        return
    if config.zero.stage == 3:
        yield Problem(
            code="model.compile",
            field="zero.stage",
            message="model.compile=true at zero.stage=3 would compile little: DeepSpeed gathers parameters in"
            " hooks of every module, and at each of them the compiled code breaks off",
            fix="set zero.stage=2 or less, or model.compile=false",
        )
    # What other machines have is seen on them, before the training.
    here = config.slurm.executor == "local" and place(config, facts).device == "cpu"
    if here and facts.compiler_obstacle:
        yield Problem(
            code="model.compile",
            field="model.compile",
            message=f"model.compile=true cannot compile for CPU ranks: {facts.compiler_obstacle}",
            fix="install it (Debian: apt install g++ python3-dev), name another compiler in $CXX, or set"
            " model.compile=false",
        )
