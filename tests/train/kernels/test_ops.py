"""DeepSpeed's C++ kernels: built once, where they belong; what is missing or fails is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.doctor.ops import build_ops, check_ops
from train.failures import UserError
from train.kernels import build, ops


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is built in it."""
    monkeypatch.setenv("SHARDLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "restored")
    return tmp_path / "cache"


class Compiler:
    """In the place of DeepSpeed's builder; the first tries fail."""

    def __init__(self, folder: Path, failures: int = 0) -> None:
        self.runs, self._failures, self._library = 0, failures, folder / "cpu_adam.so"

    def __call__(self) -> "Compiler":
        return self

    def load(self) -> Any:
        self.runs += 1
        if self.runs <= self._failures:
            raise RuntimeError("no space left")
        self._library.write_bytes(b"machine code")
        return SimpleNamespace(__file__=str(self._library))


def test_what_is_built_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path):
    compiler = Compiler(tmp_path)
    monkeypatch.setattr(build, "_builder", lambda _: compiler)
    assert ops.built_file("cpu_adam") is None
    build.build("cpu_adam")
    build.build("cpu_adam")
    assert compiler.runs == 1
    found = ops.built_file("cpu_adam")
    assert found is not None
    assert found.read_bytes() == b"machine code"
    assert found.is_relative_to(cache / "extensions")
    assert not list(cache.rglob("*.staging"))


def test_a_build_that_failed_leaves_nothing_that_passes_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    compiler = Compiler(tmp_path, failures=1)
    monkeypatch.setattr(build, "_builder", lambda _: compiler)
    with pytest.raises(RuntimeError, match="no space left"):
        build.build("cpu_adam")
    assert ops.built_file("cpu_adam") is None
    build.build("cpu_adam")
    assert ops.built_file("cpu_adam") is not None


def test_loading_what_was_not_built_says_how_to_build_it():
    with pytest.raises(UserError, match="shardline doctor --build-ops"):
        build.load("cpu_adam")


def test_another_processor_and_other_versions_have_builds_of_their_own(monkeypatch: pytest.MonkeyPatch):
    here = ops.op_folder("cpu_adam")
    monkeypatch.setattr(ops, "_cpu", lambda: "cpu-other")
    other = ops.op_folder("cpu_adam")
    monkeypatch.setattr(ops, "version", lambda _: "0.0")
    assert len({here, other, ops.op_folder("cpu_adam")}) == 3


def test_a_missing_compiler_is_named_unless_something_is_built(monkeypatch: pytest.MonkeyPatch):
    assert ops.why_not_buildable("cpu_adam") is None
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "c++ is missing here" in (ops.why_not_buildable("cpu_adam") or "")
    [finding] = check_ops()
    assert finding.level == "note"
    assert "c++ is missing here" in finding.text
    elsewhere = ops.op_folder("cpu_adam").parent.with_name("cpu-of-the-nodes") / "cpu_adam"
    elsewhere.mkdir(parents=True)
    (elsewhere / "cpu_adam.so").touch()
    assert ops.why_not_buildable("cpu_adam") is None


@pytest.fixture
def nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CUDA toolkit without headers of libraries, and no pip package that has them; returns its folder."""
    home = tmp_path / "cuda"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "nvcc").touch()
    monkeypatch.setenv("CUDA_HOME", str(home))
    for name in ("CPLUS_INCLUDE_PATH", "CPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ops, "find_spec", lambda _: None)
    monkeypatch.setattr(ops, "has_headers", lambda: True)
    return home


def packaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As pip lays out NVIDIA's packages; returns the include folder."""
    include = folder / "nvidia" / "cu13" / "include"
    include.mkdir(parents=True)
    (include / "cusparse.h").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(folder / "nvidia")])
    monkeypatch.setattr(ops, "find_spec", lambda _: spec)
    return include


def test_cuda_headers_are_looked_for_in_the_toolkit_and_among_pips_packages(
    nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert "cusparse.h (of the CUDA toolkit, or pip install" in (ops.why_not_buildable("fused_adam") or "")
    assert ops.why_not_buildable("cpu_adam") is None
    with monkeypatch.context() as patch:
        packaged(tmp_path / "site", patch)
        assert ops.why_not_buildable("fused_adam") is None
    (nvcc / "include").mkdir()
    (nvcc / "include" / "cusparse.h").touch()
    assert ops.why_not_buildable("fused_adam") is None


def test_a_build_gets_pips_headers_where_the_toolkit_has_none(
    nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[str | None] = []

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> SimpleNamespace:
        seen.append(env.get("CPLUS_INCLUDE_PATH"))
        return SimpleNamespace(returncode=0, stderr="")

    include = packaged(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(ops, "subprocess", SimpleNamespace(run=run))
    assert ops.build_in_child("fused_adam") is None
    monkeypatch.setenv("CPLUS_INCLUDE_PATH", "/mine")
    assert ops.build_in_child("fused_adam") is None
    assert ops.build_in_child("cpu_adam") is None
    (nvcc / "include").mkdir()
    (nvcc / "include" / "cusparse.h").touch()
    assert ops.build_in_child("fused_adam") is None
    assert seen == [str(include), f"/mine:{include}", "/mine", "/mine"]


def test_a_build_gets_architectures_that_deepspeed_reads(nvcc: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[str | None] = []

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> SimpleNamespace:
        seen.append(env.get("TORCH_CUDA_ARCH_LIST"))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(ops, "subprocess", SimpleNamespace(run=run))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    assert ops.build_in_child("fused_adam") is None
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0a 10.0f+PTX")
    assert ops.build_in_child("fused_adam") is None
    assert seen == [None, "8.0;9.0 10.0+PTX"]


def test_of_a_failed_build_the_cause_is_shown(monkeypatch: pytest.MonkeyPatch):
    command = "/usr/bin/nvcc -DTORCH_EXTENSION_NAME=fused_adam -c adam.cu"
    notes = [f"note {number}" for number in range(20)]
    said = [
        "a warning of an import",
        f"Error building extension 'fused_adam': [1/2] {command}",
        f"FAILED: [code=1] adam.o {command}",
        "",
        "CUDAContextLight.h:8:10: fatal error: cusparse.h: No such file or directory",
        *notes,
        "ninja: build stopped: subcommand failed.",
    ]
    failed = SimpleNamespace(returncode=2, stderr="\n".join(said))
    monkeypatch.setattr(ops, "subprocess", SimpleNamespace(run=lambda *_, **__: failed))
    assert (ops.build_in_child("cpu_adam") or "").splitlines() == [said[4], *notes[-12:]]
    failed.stderr = "\n".join([*said[:5], said[-1]])
    assert (ops.build_in_child("cpu_adam") or "").splitlines() == [said[0], said[4]]
    failed.stderr = ""
    assert ops.build_in_child("cpu_adam") == "exit code 2"


def test_the_doctor_tells_what_the_compiler_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By a real build, with a compiler that compiles nothing."""
    broken = tmp_path / "broken-c++"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in *-c*) echo cannot compile today >&2; exit 1;; esac\nexec c++ "$@"\n'
    )
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    said: list[str] = []
    [finding] = build_ops(said.append)
    assert said == ["building cpu_adam; this takes a minute or two"]
    assert finding.level == "wrong"
    assert "cannot compile today" in finding.text
    assert ops.built_file("cpu_adam") is None
