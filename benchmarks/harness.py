"""Shared parts of the benchmarks: command line, description of the machine, and ratios with targets.

A benchmark is a module with a `TITLE`, a docstring that is its help, `add_options`, `measure` (from options
to numbers in JSON), `table` (from numbers to Markdown) and `NOTES`, which explain the table.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import distributions, version
from typing import Any, Literal, Protocol

from train.machine.cpu_features import multiplies_bf16, processor_facts

Precision = Literal["bf16", "fp32"]


class Benchmark(Protocol):
    """Interface of a benchmark module."""

    __doc__: str | None
    TITLE: str
    NOTES: str

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...
    def measure(self, options: argparse.Namespace) -> dict[str, Any]: ...
    def table(self, result: dict[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Shardline's value divided by another tool's, with its target."""

    what: str
    value: float
    sense: Literal["at least", "at most"]
    target: float

    @property
    def reached(self) -> bool:
        """Whether the value, rounded as shown, reaches the target."""
        value = round(self.value, 3)
        return value >= self.target if self.sense == "at least" else value <= self.target

    @property
    def row(self) -> str:
        """Row of a Markdown table."""
        verdict = "yes" if self.reached else "**no**"
        return f"| {self.what} | {self.value:.3g} | {self.sense} {self.target:g} | {verdict} |"


_PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "accelerate",
    "trl",
    "liger-kernel",
    "flash-attn",
    "hydra-core",
    "hydra-submitit-launcher",
    "numpy",
)
RATIO_HEADER = "| ratio, Shardline / other | measured | target | reached |\n|---|---|---|---|"


def ratios_of(result: dict[str, Any]) -> list[Ratio]:
    """Return the ratios of a result; an empty list if the benchmark has none."""
    return [Ratio(**entry) for entry in result.get("ratios", [])]


def as_json(ratios: Sequence[Ratio]) -> list[dict[str, Any]]:
    """Return ratios in the form in which a result stores them."""
    return [asdict(ratio) for ratio in ratios]


def at_least(low: int, multiple_of: int = 1) -> Callable[[str], int]:
    """Return a `type` for an option: an integer of at least `low` and a multiple of `multiple_of`."""

    def number(text: str) -> int:
        value = int(text)
        if value < low or value % multiple_of:
            steps = f" and a multiple of {multiple_of}" if multiple_of > 1 else ""
            raise argparse.ArgumentTypeError(f"invalid value {value}: must be at least {low}{steps}")
        return value

    return number


def run_as_command(benchmark: Benchmark) -> None:
    """Run a benchmark from the command line and print its result."""
    parser = argparse.ArgumentParser(
        description=benchmark.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benchmark.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    result = benchmark.measure(options)
    print(json.dumps(result, indent=2) if options.json else f"{setting()}\n\n{section(benchmark, result)}")


def section(benchmark: Benchmark, result: dict[str, Any]) -> str:
    """Return table, ratios and notes of one benchmark."""
    ratios = ratios_of(result)
    parts = [benchmark.table(result)]
    if ratios:
        parts.append("\n".join([RATIO_HEADER, *(ratio.row for ratio in ratios)]))
    return "\n\n".join([*parts, *filter(None, [benchmark.NOTES])])


def host_precision() -> Precision:
    """Return bf16, as in training on GPUs, if this processor has fast bf16 products, else fp32."""
    return "bf16" if multiplies_bf16() else "fp32"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return median and range as text."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def setting() -> str:
    """Return a description of this machine: usable cores, processor, memory and package versions."""
    model = processor_facts().get("model name", "CPU")
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    here = {entry.name for entry in distributions()}
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES if package in here)
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {memory_gb:.0f} GiB; {versions}"
