"""Rules about kernels and compiled layers."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from launcher.planning.plan import choose_kernels, place
from train.kernels.table import config_key, reference_of


def engages(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that each requested kernel can be used."""
    for kernel, obstacle in choose_kernels(config, facts)[1].items():
        field = config_key(kernel)
        name = config.wanted_kernels[kernel]
        yield Problem(
            code="model.attention" if kernel == "attention" else "kernels.missing",
            field=field,
            message=f"{field}={name}: it {obstacle}",
            fix=f"set {field}=auto to use it where it is available, or {field}={reference_of(kernel)}",
        )


def compiles(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that layers can be compiled if model.compile is set."""
    if not config.model.compile:
        return
    if config.zero.stage == 3:
        yield Problem(
            code="model.compile",
            field="zero.stage",
            message="model.compile=true has little effect with zero.stage=3: DeepSpeed gathers parameters in"
            " hooks of every module, and each hook is a graph break",
            fix="set zero.stage=2 or less, or model.compile=false",
        )
    # The compilers of other machines are checked there, before training begins.
    here = config.slurm.executor == "local" and place(config, facts).device == "cpu"
    if here and facts.compiler_obstacle:
        yield Problem(
            code="model.compile",
            field="model.compile",
            message=f"model.compile=true cannot compile for CPU ranks: {facts.compiler_obstacle}",
            fix="install a compiler (Debian: apt install g++ python3-dev), set CXX to another one, or set"
            " model.compile=false",
        )
