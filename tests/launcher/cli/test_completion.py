"""Tab completion, in real shells: verbs, runs, groups, options, keys and values."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from launcher.cli.completers import _cached_keys, complete_keys, complete_overrides
from launcher.compose.keys import config_keys
from launcher.compose.run import compose_run

HEAVY = {"torch", "transformers", "datasets", "deepspeed", "hydra", "omegaconf", "numpy"}
SHELLS = ("bash", "zsh", "fish")
Command = Callable[..., subprocess.CompletedProcess[str]]
Complete = Callable[[str], list[str]]


@pytest.fixture
def names(runs: Path) -> Path:
    """Two runs and a sweep with one trial."""
    for name in ("smoke-1111", "second-2222", "lr-sweep/lr-3333"):
        (runs / name).mkdir(parents=True)
        (runs / name / "plan.json").write_text("{}")
    (runs / "lr-sweep" / "sweep.yaml").write_text("")
    return runs


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """What the command answers to a shell that asks with this line."""

    def ask(line: str) -> list[str]:
        answer = tmp_path / "answer"
        answer.unlink(missing_ok=True)
        environ = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SHELL": "bash",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "_ARGCOMPLETE_COMP_WORDBREAKS": "",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        subprocess.run(
            [sys.executable, "-P", "-m", "launcher"],
            env={**os.environ, **environ},
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        return answer.read_text().splitlines()

    return ask


def test_verbs_and_options(complete: Complete):
    assert set(complete("shardline st")) == {"status", "stop"}
    assert complete("shardline checkpoints --ve") == ["--verify"]


@pytest.mark.usefixtures("names")
def test_names_of_runs_sweeps_and_trials(complete: Complete):
    assert set(complete("shardline status ")) == {"smoke-1111", "second-2222", "lr-sweep"}
    assert complete("shardline logs sm") == ["smoke-1111"]
    assert complete("shardline logs lr") == ["lr-sweep/"], "only its trials have logs"
    assert complete("shardline resume lr-sweep/") == ["lr-sweep/lr-3333"]
    assert complete("shardline refine ") == ["lr-sweep"]


def test_groups_options_keys_and_values(complete: Complete, tmp_path: Path):
    assert complete("shardline plan exp") == ["experiment="]
    assert complete("shardline plan experiment=s") == ["experiment=smoke"]
    assert complete("shardline plan optim=") == ["optim=adamw"]
    assert complete("shardline submit experiment=smoke train.gl") == ["train.global_batch_size="]
    assert complete("shardline submit optim.schedule=") == [
        f"optim.schedule={name}" for name in ("cosine", "linear", "constant", "wsd")
    ]
    assert complete("shardline submit -m zero=stage1,stage2-") == ["zero=stage1,stage2-offload"]
    assert complete("shardline resume smoke --allow-change optim.l") == ["optim.lr"]
    (tmp_path / "mine" / "hardware").mkdir(parents=True)
    (tmp_path / "mine" / "hardware" / "lab.yaml").write_text("gpus_per_node: 1\n")
    assert complete("shardline plan --conf mine hardware=la") == ["hardware=lab"]


def test_the_first_words_are_groups_and_sections(complete: Complete):
    found = complete("shardline plan ")
    assert {"experiment=", "model=", "train.", "optim.", "optim=", "seed="} <= set(found)
    assert not any(name.startswith("train.m") for name in found), "keys follow once the section is there"
    assert {"train.max_steps=", "train.epochs="} <= set(complete("shardline plan train."))


def test_every_suggested_key_and_option_is_one_that_composes():
    keys = config_keys()
    config = compose_run(["experiment=smoke"]).config.model_dump()
    for key in keys:
        section, *rest = key.split(".")
        if section != "sweep":
            value = config[section]
            for name in rest:
                value = value[name] if value is not None else None
    assert keys["model.task"] == ["causal", "classification"]
    assert keys["data.packing"] == ["true", "false"]
    assert keys["data.validation"] == ["null"]
    assert keys["sweep.halving.rungs"] == []


def test_keys_come_from_a_cache_that_changed_sources_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHARDLINE_CACHE", str(tmp_path))
    assert _cached_keys() == config_keys()
    [file] = (tmp_path / "completion").glob("*.json")
    cached = json.loads(file.read_text())
    assert any(path.endswith("train/config.py") for path in cached["sources"])
    file.write_text(json.dumps({**cached, "keys": {"made.up": []}}))
    assert complete_keys(prefix="made.") == ["made.up"]
    source = next(iter(cached["sources"]))
    file.write_text(json.dumps({"sources": {**cached["sources"], source: 0}, "keys": {"made.up": []}}))
    assert complete_keys(prefix="train.gl") == ["train.global_batch_size"]
    file.write_text("half a fi")
    assert complete_keys(prefix="train.gl") == ["train.global_batch_size"]


def test_keys_are_suggested_without_a_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHARDLINE_CACHE", str(tmp_path / "file"))
    from argparse import Namespace

    assert complete_overrides(prefix="train.gl", parsed_args=Namespace()) == ["train.global_batch_size="]


@pytest.mark.parametrize("line", ["shardline st", "shardline status sm", "shardline plan train.gl"])
def test_a_tab_costs_little(line: str, complete: Complete, names: Path):
    """CPU seconds rather than seconds: the tests beside this one take their share of the cores."""
    complete(line)
    before = os.times()
    assert complete(line)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.6, "0.1 to 0.25 s on two slow cores"


def test_completion_imports_nothing_heavy(tmp_path: Path, names: Path):
    probe = """
import sys
from argparse import Namespace
from launcher.cli.completers import complete_overrides, complete_runs
from launcher.cli.parser import make_parser
make_parser()
complete_overrides(prefix="train.gl", parsed_args=Namespace())
print(*sorted({name.split(".")[0] for name in sys.modules}))
complete_runs(prefix="")
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-P", "-c", probe], capture_output=True, text=True, check=True, cwd=tmp_path
        )
    keys, all_of_it = (set(line.split()) for line in done.stdout.splitlines())
    assert all_of_it.isdisjoint(HEAVY)
    assert "pydantic" not in keys


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("shardline plan train.gl", "train.global_batch_size="),
        ("shardline plan optim.schedule=lin", "optim.schedule=linear"),
        ("shardline plan zero=stage2-", "zero=stage2-offload"),
        ("shardline logs smo", "smoke-1111"),
        ("shardline doc", "doctor"),
    ],
)
def test_a_real_shell_completes_with_the_printed_script(
    shell: str, typed: str, completed: str, tmp_path: Path
):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    assert Terminal(shell, tmp_path).run_after_tab(typed) == [*typed.split()[1:-1], completed]


def test_bash_lists_several_options(tmp_path: Path):
    text = Terminal("bash", tmp_path).shown_after_tabs("shardline plan optim.schedule=", "wsd")
    for name in ("cosine", "linear", "constant", "wsd"):
        assert name in text


def test_the_script_is_json_too(shardline: Command):
    answer = json.loads(shardline("completion", "fish", "--json").stdout)
    assert answer["shell"] == "fish"
    assert shardline("completion", "fish").stdout == answer["script"]


class Terminal:
    """An interactive shell on a pseudo terminal, with completion set up as the README says."""

    _COMMANDS: ClassVar[dict[str, tuple[Sequence[str], Sequence[str]]]] = {
        "bash": (["bash", "--norc", "--noprofile", "-i"], ['eval "$(shardline completion bash)"']),
        "zsh": (
            ["zsh", "-f", "-i"],
            ["autoload -Uz compinit && compinit -u -D", 'eval "$(shardline completion zsh)"'],
        ),
        "fish": (["fish", "--no-config", "-i"], ["shardline completion fish | source"]),
    }

    def __init__(self, shell: str, folder: Path) -> None:
        command, lines = self._COMMANDS[shell]
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        script = programs / "shardline"
        self._arguments = folder / "arguments"
        # Completion runs the real command; a completed line records what it was called with.
        script.write_text(
            f"""#!/bin/sh
if [ -n "$_ARGCOMPLETE" ] || [ "$1" = completion ]; then exec {sys.executable} -P -m launcher "$@"; fi
printf '%s\\n' "$@" > {self._arguments}.new && mv {self._arguments}.new {self._arguments}
"""
        )
        script.chmod(0o755)
        environ = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "HOME": str(folder),
            "COLUMNS": "300",
        }
        self._outer, inner = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # fish insists on a terminal of its own
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environ,
            cwd=folder,
        )
        os.close(inner)
        self._text = ""
        # The word appears only when the line has run: what is typed spells it with quotes inside.
        for line in [*lines, "echo rea''dy"]:
            os.write(self._outer, f"{line}\r".encode())
        self._wait("ready")

    def run_after_tab(self, typed: str) -> list[str]:
        """The arguments of the command once the line is typed, completed and run."""
        with self._closing():
            self._press(typed, tabs=1)
            os.write(self._outer, b"\r")
            self._wait_until(self._arguments.exists)
            return self._arguments.read_text().splitlines()

    def shown_after_tabs(self, typed: str, awaited: str) -> str:
        """The terminal's text once two tabs have listed what is awaited."""
        with self._closing():
            self._press(typed, tabs=2)
            self._wait(awaited)
            return self._text

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._outer)

    def _press(self, typed: str, tabs: int) -> None:
        self._text = ""
        os.write(self._outer, typed.encode())
        self._wait(typed.rpartition(" ")[2])
        for _ in range(tabs):
            os.write(self._outer, b"\t")
            time.sleep(0.5)

    def _wait(self, awaited: str) -> None:
        self._wait_until(lambda: awaited in self._text)

    def _wait_until(self, happened: Callable[[], bool], within_s: float = 60.0) -> None:
        end = time.monotonic() + within_s
        while not happened() and time.monotonic() < end:
            if select.select([self._outer], [], [], 0.2)[0]:
                self._text += os.read(self._outer, 65536).decode(errors="replace").replace("\r\n", "\n")
        assert happened(), self._text[-2000:]
