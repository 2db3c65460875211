"""The documentation is run: every command and every link in it."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.devcluster.daemons import processes_of
from slurm.devcluster.packages import missing_packages
from tests.commands import run_interpreter

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "examples/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
)
BLOCKS = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINKS = re.compile(r"\]\(([^)#]+)")
NEEDS_A_CLUSTER = {"devcluster", "slurm=devcluster"}
Command = Callable[..., subprocess.CompletedProcess[str]]


def commands() -> list[list[str]]:
    """Every command line in the documents' bash blocks, as words."""
    text = "".join((ROOT / name).read_text() for name in DOCUMENTS)
    return [shlex.split(line) for block in BLOCKS.findall(text) for line in block.splitlines() if line]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str):
    for target in LINKS.findall((ROOT / document).read_text()):
        if not target.startswith("http"):
            assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


def test_make_targets_exist():
    targets = {words[1] for words in commands() if words[0] == "make"} | {"triage"}
    assert targets >= {"demo", "test"}
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture
def prepared(tmp_path: Path) -> Command:
    """New interpreters in the folder that the README's examples assume: data files and a hardware file."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    for name in ("train", "validation"):
        source = ROOT / "examples" / "helpdesk" / f"{name}.jsonl"
        (folder / f"{name}.jsonl").write_bytes(source.read_bytes())
    (folder / "my_conf" / "hardware").mkdir(parents=True)
    (folder / "my_conf" / "hardware" / "lab.yaml").write_text("gpus_per_node: 1\n")

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_interpreter(*arguments, cwd=folder, environ={**os.environ, **environ})

    return run


@pytest.mark.multiprocess
def test_every_command_works(prepared: Command, tmp_path: Path):
    """In the order of the README: `submit` of a run is awaited, so that later lines can name it."""
    environ = {"HF_HOME": str(tmp_path / "empty")}
    lines = commands()
    if missing_packages(accounting=True) and os.geteuid() != 0:
        lines = [words for words in lines if not NEEDS_A_CLUSTER & set(words)]
    seen = 0
    for words in lines:
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            environ[name] = value.replace("$PWD", str(tmp_path / "cwd"))
        if words[0] != "shardline":
            assert words[0] in ("make", "source", "hf", "export", ".venv/bin/python"), words
            continue
        seen += 1
        done = prepared(*words[1:], **environ)
        if "model=gpt2" in words:
            assert done.returncode == 2
            assert "hf download openai-community/gpt2" in done.stderr
        else:
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    assert seen >= 9
    assert not processes_of(tmp_path / "cwd" / ".devcluster"), "the README leaves a cluster running"


def test_the_quoted_refusal_is_what_is_printed(shardline: Command):
    text = (ROOT / "README.md").read_text()
    quoted = re.search(r"```text\n\$ shardline (plan [^\n]+)\n(.*?)```", text, re.DOTALL)
    assert quoted
    assert shardline(*shlex.split(quoted[1])).stderr == quoted[2]


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") <= 150


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_every_verb_and_every_name_in_a_run_directory_is_documented():
    from launcher.cli.parser import all_verbs
    from train.rundir import RunDir

    text = (ROOT / "README.md").read_text()
    for verb in all_verbs():
        assert f"| `{verb.name}` |" in text
    text = (ROOT / "docs" / "run-directory.md").read_text()
    entries = [name for name, value in vars(RunDir).items() if isinstance(value, property)]
    for entry in entries:
        name = getattr(RunDir(Path("run")), entry).name
        assert f"| `{name}" in text, name
