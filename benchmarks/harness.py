"""What all benchmarks share: their command line, the machine they ran on, and ratios with their targets.

A benchmark is a module with a `TITLE`, its docstring as help, `add_options`, `measure` (options to numbers
that JSON can hold), `table` (numbers to markdown) and `NOTES`, which say what to make of the table.
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
    """What a module of this package offers."""

    __doc__: str | None
    TITLE: str
    NOTES: str

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...
    def measure(self, options: argparse.Namespace) -> dict[str, Any]: ...
    def table(self, result: dict[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Ours over theirs, and what we want it to be."""

    what: str
    value: float
    sense: Literal["at least", "at most"]
    target: float

    @property
    def reached(self) -> bool:
        """Whether it is what we want, to the digits that are shown."""
        value = round(self.value, 3)
        return value >= self.target if self.sense == "at least" else value <= self.target

    @property
    def row(self) -> str:
        """Of a table."""
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
RATIO_HEADER = "| ratio, Shardline / other | measured | wanted | reached |\n|---|---|---|---|"


def ratios_of(result: dict[str, Any]) -> list[Ratio]:
    """Those in a result; none where a benchmark compares with nothing."""
    return [Ratio(**entry) for entry in result.get("ratios", [])]


def as_json(ratios: Sequence[Ratio]) -> list[dict[str, Any]]:
    """For a result."""
    return [asdict(ratio) for ratio in ratios]


def at_least(low: int, multiple_of: int = 1) -> Callable[[str], int]:
    """For an option's `type`: a whole number from `low` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < low or value % multiple_of:
            steps = f" in steps of {multiple_of}" if multiple_of > 1 else ""
            raise argparse.ArgumentTypeError(f"{value} is not allowed: a number from {low} on{steps}")
        return value

    return number


def run_as_command(benchmark: Benchmark) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=benchmark.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benchmark.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers")
    options = parser.parse_args()
    result = benchmark.measure(options)
    print(json.dumps(result, indent=2) if options.json else f"{setting()}\n\n{section(benchmark, result)}")


def section(benchmark: Benchmark, result: dict[str, Any]) -> str:
    """Table, ratios and notes of one benchmark."""
    ratios = ratios_of(result)
    parts = [benchmark.table(result)]
    if ratios:
        parts.append("\n".join([RATIO_HEADER, *(ratio.row for ratio in ratios)]))
    return "\n\n".join([*parts, *filter(None, [benchmark.NOTES])])


def host_precision() -> Precision:
    """bf16, as one trains on GPUs, where this processor multiplies it; else fp32, or hours would pass."""
    return "bf16" if multiplies_bf16() else "fp32"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def setting() -> str:
    """Where it was measured: processor, cores in use, memory, and the versions of what is compared."""
    model = processor_facts().get("model name", "CPU")
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    here = {entry.name for entry in distributions()}
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES if package in here)
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {memory_gb:.0f} GiB; {versions}"
