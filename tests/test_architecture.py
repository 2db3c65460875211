"""The layout's promises: imports run one way, outside systems have one owner, rooms stay small."""

import ast
import subprocess
import sys
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("launcher", "train", "slurm")
SOURCES = sorted(chain.from_iterable((ROOT / package).rglob("*.py") for package in PACKAGES))
MAY_IMPORT = {"launcher": {"launcher", "slurm", "train"}, "slurm": {"slurm"}, "train": {"train"}}
OWNERS = {
    "hydra": {"launcher/compose/draft.py", "launcher/compose/groups.py", "launcher/compose/sweep.py"},
    "omegaconf": {"launcher/compose/groups.py", "launcher/compose/run.py", "launcher/compose/sweep.py"},
    "submitit": {"slurm/executor.py"},
    "wandb": {"train/measure/tracking.py", "train/measure/wandb_files.py"},
    "torch.distributed": {"train/dist.py"},
    "deepspeed": {
        "train/engine/engine.py",
        "train/engine/muon.py",
        "train/dist.py",
        "train/engine/universal.py",
        "train/kernels/adamw.py",
        "train/kernels/build.py",
    },
    "datasets": {"train/data/prepare.py"},
    "gguf": {"train/model/sources.py"},
    "vl_convert": {"launcher/report/page.py"},
}
TORCH_FREE = (
    "batch",
    "cache",
    "checkpoint.schedule",
    "checkpoint.store",
    "config",
    "config_names",
    "data.packing",
    "data.parts",
    "data.rows",
    "data.sampler",
    "evaluate.assessment",
    "failures",
    "families",
    "formats.registry",
    "faults",
    "flops",
    "job",
    "journal.reading",
    "kernels.ops",
    "kernels.table",
    "measure.goodput",
    "measure.phases",
    "metrics",
    "model.sources",
    "node.agent",
    "node.decide",
    "node.environment",
    "node.health",
    "node.rendezvous",
    "node.forkserver",
    "node.heartbeat",
    "node.shared_memory",
    "node.signals",
    "node.starter",
    "node.supervise",
    "node.watchdog",
    "observer",
    "packages",
    "rank.gc_policy",
    "rank.loss_guard",
    "rank_environment",
    "records.kinds",
    "result",
    "rundir",
    "step_number",
    "zero",
)
HEAVY = {"torch", "transformers", "datasets", "deepspeed", "sklearn"}


@cache
def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


@cache
def attributes(path: Path) -> set[str]:
    """Dotted names that a file uses as attributes of a module, such as `torch.distributed.get_rank`."""
    tree = ast.parse(path.read_text())
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_one_way(path: Path):
    package = path.relative_to(ROOT).parts[0]
    used = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)
    assert used <= MAY_IMPORT[package]


@pytest.mark.parametrize("system", OWNERS)
def test_each_outside_system_has_one_owner(system: str):
    users = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(name == system or name.startswith(f"{system}.") for name in imports(path) | attributes(path))
    }
    assert users == OWNERS[system]


def import_edges() -> dict[str, set[str]]:
    """For each module, the modules of ours that it imports."""
    modules = {module_name(path): path for path in SOURCES}
    return {
        name: {used for used in modules if used in imports(path)} - {name} for name, path in modules.items()
    }


def assert_acyclic(edges: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for used in edges.get(name, ()):
                visit(used, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_no_files_import_each_other_in_a_circle():
    assert_acyclic(import_edges())


def test_no_folders_import_each_other_in_a_circle():
    """The files and folders inside each folder, with every import between their contents."""
    within: dict[str, dict[str, set[str]]] = {}
    for name, uses in import_edges().items():
        for used in uses:
            shared = common_folder(name, used)
            rooms = [".".join(module.split(".")[: shared + 1]) for module in (name, used)]
            # A folder that imports its own __init__ is one room.
            if shared and rooms[0] != rooms[1]:
                within.setdefault(".".join(name.split(".")[:shared]), {}).setdefault(rooms[0], set()).add(
                    rooms[1]
                )
    for edges in within.values():
        assert_acyclic(edges)


def common_folder(first: str, second: str) -> int:
    """How many leading parts of two dotted names are equal."""
    pairs = zip(first.split("."), second.split("."), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(first.count("."), second.count(".")) + 1)


def test_the_torch_free_modules_load_nothing_heavy():
    """One process imports them one after the other and names the first that brings something heavy."""
    modules = [f"train.{name}" for name in TORCH_FREE]
    modules += [name for name in map(module_name, SOURCES) if name.startswith(("launcher.", "slurm."))]
    modules.remove("launcher.__main__")
    probe = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    heavy = {HEAVY} & {{name.split(".")[0] for name in sys.modules}}
    assert not heavy, f"{{module}} loads {{heavy}}"
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_module_is_named_like_a_dependency():
    taken = {"datasets", "wandb", "hydra", "submitit", "deepspeed", "torch", "transformers", "rich", "yaml"}
    assert taken.isdisjoint(path.stem for path in SOURCES)


def test_rooms_stay_small():
    for path in SOURCES:
        lines = path.read_text().count("\n")
        assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines: split it"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{path.relative_to(ROOT)}:{node.name} has {length} lines: split it"


def test_only_zero_py_spells_deepspeeds_keys():
    keys = (
        "reduce_bucket_size",
        "offload_param",
        "stage3_prefetch_bucket_size",
        "gradient_accumulation_steps",
    )
    for path in SOURCES:
        if path.name != "zero.py":
            found = [key for key in keys if f'"{key}"' in path.read_text()]
            assert not found, f"{path.relative_to(ROOT)} spells {found}"
