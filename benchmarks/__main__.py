"""Run all benchmarks one after another and write their page: `make bench`.

    python -m benchmarks [--only NAME ...] [--out docs/benchmarks.md]

Each benchmark runs in its own process. The numbers are stored next to the page as .json; with `--only`, the
numbers of the other benchmarks are kept.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import RATIO_HEADER, Benchmark, ratios_of, section, setting

NAMES = (
    "equal",
    "ragged",
    "memory",
    "loss_head",
    "optimizer",
    "layers",
    "packing",
    "checkpoint",
    "resume",
    "start",
    "sweep",
    "command",
    "metering",
)
_BUSY = 1.0
_QUIET_WITHIN_S = 180.0
_ON_A_GPU = """\
## On a GPU

`python -m benchmarks.gpu` measures tokens per second, MFU, peak memory and losses of Shardline and Hugging
Face's Trainer with DeepSpeed, Liger's kernels and flash attention, on one GPU. It has not been run on a GPU
yet, so there is no table here. A test runs both of them on the CPU with a tiny model; their losses agree."""


def main() -> None:
    """Run the benchmarks and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--busy", action="store_true", help="measure even if the machine is busy")
    options = parser.parse_args()
    if not options.busy and not _quiet():
        load = os.getloadavg()[0]
        parser.error(f"the machine is busy (load {load:.1f}), timings would be wrong; wait, or use --busy")
    numbers_file = options.out.with_suffix(".json")
    numbers: dict[str, Any] = json.loads(numbers_file.read_text()) if numbers_file.exists() else {}
    failed = []
    with tempfile.TemporaryDirectory() as extensions:
        os.environ["TORCH_EXTENSIONS_DIR"] = extensions
        for name in options.only:
            began = time.perf_counter()
            print(f"{name} ...", end=" ", flush=True)
            result = _measured(name)
            if result is None:
                failed.append(name)
                continue
            took_s = round(time.perf_counter() - began, 1)
            numbers[name] = {"setting": setting(), "took_s": took_s, "result": result}
            print(f"{took_s:.0f} s", flush=True)
            for ratio in ratios_of(result):
                print(
                    f"  {ratio.what}: {ratio.value:.3g}, target: {ratio.sense} {ratio.target:g}", flush=True
                )
            numbers_file.write_text(json.dumps(numbers, indent=1) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the page was not written, the other numbers are stored")
    options.out.write_text(page(numbers))
    print(f"{options.out} written")


def _quiet() -> bool:
    """Return whether the machine is idle; waits for its load to fall, for example after an installation."""
    until = time.monotonic() + _QUIET_WITHIN_S
    while (load := os.getloadavg()[0]) > _BUSY and time.monotonic() < until:
        print(f"load {load:.1f}: waiting until it is {_BUSY:.1f}", flush=True)
        time.sleep(10)
    return load <= _BUSY


def _measured(name: str) -> dict[str, Any] | None:
    """Return the numbers of one benchmark; if it fails, print its output and return None."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def page(numbers: dict[str, Any]) -> str:
    """Return the page in Markdown, made from the numbers only: the ratios, then each benchmark."""
    known: dict[str, Benchmark] = {
        name: importlib.import_module(f"benchmarks.{name}") for name in NAMES if name in numbers
    }
    results = {name: numbers[name]["result"] for name in known}
    ratios = [ratio.row for result in results.values() for ratio in ratios_of(result)]
    total_min = sum(entry["took_s"] for entry in numbers.values()) / 60
    parts = [
        "# Benchmarks",
        f"`make bench` runs all benchmarks and writes this page, which took {total_min:.0f} minutes. Each"
        " section has the command that runs it alone.",
        "Baselines run with their best settings in the same process tree, alternating with Shardline. All"
        " benchmarks ran on CPU ranks with gloo: the ratios are meaningful, the absolute speeds are not, and"
        " neither allows a claim about GPUs.",
        "\n\n".join(dict.fromkeys(entry["setting"] for entry in numbers.values())),
        "## Comparison with other tools",
        "\n".join([RATIO_HEADER, *ratios]),
    ]
    for name, benchmark in known.items():
        parts += [
            f"## {benchmark.TITLE}",
            f"`python -m benchmarks.{name}`",
            section(benchmark, results[name]),
        ]
    return "\n\n".join([*parts, _ON_A_GPU]) + "\n"


if __name__ == "__main__":
    main()
