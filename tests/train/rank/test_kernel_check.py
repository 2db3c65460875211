"""What follows kernels that differ from their reference on some rank: a refusal, or the reference on all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.group import on_ranks
from train.failures import UserError
from train.journal.events import KernelsChosen
from train.journal.reading import of_kind, read_journal
from train.kernels.check import Heads
from train.kernels.table import KernelChoice
from train.rank import kernel_check
from train.rank.kernel_check import checked_kernels
from train.rundir import RunDir

PLANNED = {
    "attention": KernelChoice(name="sdpa", why="planned"),
    "optimizer": KernelChoice(name="fused", why="planned"),
    "rope": KernelChoice(name="liger", why="planned"),
}
HEADS = Heads(queries=2, keys=2, size=8, causal=True)


def checked(
    root: Path, monkeypatch: pytest.MonkeyPatch, on_mismatch: str, found: list[dict[str, str]]
) -> list[dict[str, str]]:
    """The names of the kernels on each rank, given what each of them found to differ."""
    job: Any = SimpleNamespace(
        run_dir=RunDir(root),
        plan=SimpleNamespace(kernels=PLANNED),
        config=SimpleNamespace(
            train=SimpleNamespace(precision="fp32"), kernels=SimpleNamespace(on_mismatch=on_mismatch)
        ),
    )

    def on_rank(group: Any) -> dict[str, str]:
        choices = checked_kernels(job, group, 3, HEADS)
        return {kernel: choice.name for kernel, choice in choices.items()}

    ranks = iter(found)
    monkeypatch.setattr(kernel_check, "mismatches", lambda *_: next(ranks))
    return on_ranks(len(found), on_rank)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ([{}, {}], {"attention": "sdpa", "optimizer": "fused", "rope": "liger"}),
        ([{"rope": "loss differs"}, {}], {"attention": "sdpa", "optimizer": "fused", "rope": "torch"}),
        (
            [{"attention": "a"}, {"optimizer": "b", "attention": "c"}],
            {"attention": "eager", "optimizer": "torch", "rope": "liger"},
        ),
    ],
)
def test_all_ranks_fall_back_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[dict[str, str]], names: dict[str, str]
):
    assert checked(tmp_path, monkeypatch, "fall_back", found) == [names, names]
    [chosen] = of_kind(read_journal(RunDir(tmp_path).events), KernelsChosen)
    assert chosen.attempt == 3
    assert {kernel: use.name for kernel, use in chosen.engaged.items()} == names
    for kernel, choice in PLANNED.items():
        same = names[kernel] == choice.name
        assert (chosen.engaged[kernel].reason == choice.why) == same
    assert PLANNED["rope"].name == "liger", "the plan was changed"


def test_one_rank_that_differs_is_refused_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError) as refused:
        checked(tmp_path, monkeypatch, "refuse", [{}, {"attention": "slopes differ", "rope": "no driver"}])
    text = str(refused.value)
    for part in ("model.attention=sdpa", "slopes differ", "eager", "kernels.rope=liger", "no driver"):
        assert part in text
    assert not RunDir(tmp_path).events.exists()


def test_kernels_that_agree_are_never_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    [names] = checked(tmp_path, monkeypatch, "refuse", [{}])
    assert names["rope"] == "liger"
