"""How sweeps look to a person, and as JSON, CSV and Markdown."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.cli.show.problems import show_problems
from launcher.node.rungs import decisions
from launcher.planning.plan import batch_summary
from launcher.records.points import label
from launcher.records.runs import name_to_type
from launcher.records.sweeps import SweepDir
from launcher.status.runs import RunStatus
from launcher.sweep.leaderboard import Leaderboard, Setting
from launcher.sweep.plan import SweepPlan, by_shape
from launcher.sweep.refine import Proposal
from launcher.sweep.start import SweepSubmission
from launcher.words import counted, duration

_SHOWN_TRIALS = 12


def show_plan(console: Console, plan: SweepPlan, verbose: bool) -> None:
    """Print what a sweep will run.

    Args:
        console: Where to print.
        plan: The plan.
        verbose: Whether to list all trials.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("sweep", plan.root.name)
    for axis in plan.axes:
        values = axis.choices if axis.interval is None else (axis.interval,)
        table.add_row(escape(axis.key), escape(", ".join(map(str, values))))
    where = "job arrays" if plan.executor == "slurm" else "one after another on this machine"
    if plan.executor == "local" and plan.settings.parallel:
        where = f"{plan.settings.parallel} at once on this machine"
    table.add_row("trials", f"{len(plan.trials)}, {where}")
    if plan.settings.halving:
        halving = plan.settings.halving
        table.add_row(
            "halving", f"the best {halving.keep:.0%} of the settings continue after steps {halving.rungs}"
        )
    for trials in by_shape(plan.trials):
        place = trials[0].plan.placement
        kind = "GPU" if place.device == "cuda" else "CPU"
        table.add_row(
            "resources",
            f"{counted(len(trials), 'trial')} on {counted(place.nodes, 'node')} x"
            f" {counted(place.ranks_per_node, f'{kind} rank')},"
            f" {batch_summary(trials[0].plan.training.batch)}",
        )
    disks = [trial.plan.disk.total_gb for trial in plan.trials if trial.plan.disk]
    if disks:
        table.add_row("disk", f"at most {sum(disks):.2f} GB")
    console.print(table)
    console.print()
    shown = plan.trials if verbose else plan.trials[:_SHOWN_TRIALS]
    for trial in shown:
        console.print(f"  {trial.name}  [dim]{escape(label(trial.point))}[/]", highlight=False)
    if len(plan.trials) > len(shown):
        console.print(f"  and {len(plan.trials) - len(shown)} more; to list all, add -v", highlight=False)


def plan_as_json(plan: SweepPlan) -> dict[str, Any]:
    """The fields of `plan -m --json`."""
    return {
        "sweep": plan.root.name,
        "dir": str(plan.root),
        "axes": plan.axes,
        "settings": plan.settings,
        "trials": [{"run": trial.name, "point": trial.point} for trial in plan.trials],
    }


def show_submission(console: Console, done: SweepSubmission) -> None:
    """Print how many trials were started, and commands to continue with."""
    name = name_to_type(done.sweep)
    parts = [
        f"{done.started} of {counted(done.trials, 'trial')} started",
        *([f"{done.finished} already finished"] if done.finished else []),
        *([f"{done.alive} already waiting or running"] if done.alive else []),
        *(
            [f"{done.stopped} stopped by halving (to continue one: shardline resume TRIAL)"]
            if done.stopped
            else []
        ),
    ]
    jobs = f"; job {', '.join(done.jobs)}" if done.jobs else ""
    console.print(
        f"[bold]{done.sweep.root.name}[/]: {'; '.join(parts)}{jobs}", highlight=False, soft_wrap=True
    )
    if done.other_code:
        console.print(
            "the sources have changed since the first submit: all trials run the code that was frozen then",
            highlight=False,
        )
    if done.refused:
        show_problems(console, [done.refused], nothing_created=False)
    console.print("[bold]Next[/]")
    for command, meaning in (
        (f"shardline status {name}", "state of every trial"),
        (f"shardline results {name}", "the leaderboard so far"),
        (f"shardline report {name}", "a page with the leaderboard and curves"),
    ):
        console.print(f"  {command}  [dim]# {meaning}[/]", highlight=False, soft_wrap=True)


def submission_as_json(done: SweepSubmission) -> dict[str, Any]:
    """The fields of `submit -m --json`."""
    return {
        "sweep": done.sweep.root.name,
        "dir": str(done.sweep.root),
        "trials": done.trials,
        "started": done.started,
        "finished": done.finished,
        "alive": done.alive,
        "stopped": done.stopped,
        "job_ids": done.jobs,
        "refused": done.refused,
    }


def progress_line(statuses: Sequence[RunStatus]) -> str:
    """Count the trials in each state and the steps of all together."""
    counts = Counter(status.state for status in statuses)
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(counts.items()))
    steps = sum(status.step for status in statuses)
    return f"{counted(len(statuses), 'trial')}: {states}; {counted(steps, 'step')} in total"


def show_board(console: Console, sweep: SweepDir, board: Leaderboard) -> None:
    """Print the leaderboard, the effect of each key, and the verdict."""
    header, *rows = board_rows(board)
    table = Table(box=None, padding=(0, 2, 0, 0), title=escape(board.sweep), title_justify="left")
    for name in header:
        table.add_column(escape(name), justify="right", overflow="fold")
    for setting, row in zip(board.settings, rows, strict=True):
        style = "bold green" if setting is board.best else None
        table.add_row(*(escape(_cell(cell)) for cell in row), style=style)
    console.print(table)
    if board.effects:
        console.print("\n[bold]What matters[/] (share of the variance between trials)")
        for effect in board.effects:
            means = ", ".join(f"{value}: {mean:.4g}" for value, mean, _ in effect.means)
            console.print(f"  {escape(effect.key)}  {effect.share:.0%}  {escape(means)}", highlight=False)
    for decision in decisions(sweep):
        console.print(
            f"\nhalving after step {decision.step}: {len(decision.kept)} trials continued,"
            f" {len(decision.dropped)} stopped (to continue one: shardline resume TRIAL)",
            highlight=False,
        )
    console.print(
        f"\n[bold]CheckpointVerdict[/] {escape(board.verdict.text)}", highlight=False, soft_wrap=True
    )
    failed = [t for s in board.settings for t in s.trials if t.state in ("FAILED", "CANCELLED")]
    for trial in failed[:_SHOWN_TRIALS]:
        console.print(
            f"  {trial.name} {trial.state.lower()}: {escape(trial.why)}", highlight=False, soft_wrap=True
        )


def board_rows(board: Leaderboard) -> list[list[Any]]:
    """The leaderboard as rows of plain values, the header first."""
    keys = list(dict.fromkeys(key for setting in board.settings for key in setting.values))
    header = [*keys, "done", board.metric, "mean", "sd", "time", "rank-hours", "tokens/s", "peak GB"]
    return [
        header,
        *([setting.values.get(key) for key in keys] + _numbers(setting) for setting in board.settings),
    ]


def _numbers(setting: Setting) -> list[Any]:
    """The columns of a setting that follow its swept values."""
    finished = [trial for trial in setting.trials if trial.state == "COMPLETED"]
    times = [trial.allocated_s for trial in finished if trial.allocated_s is not None]
    hours = [trial.rank_hours for trial in finished if trial.rank_hours is not None]
    speeds = [trial.tokens_per_s for trial in finished if trial.tokens_per_s is not None]
    peaks = [trial.peak_gb for trial in finished if trial.peak_gb is not None]
    return [
        f"{setting.finished}/{len(setting.trials)}",
        setting.score,
        setting.mean,
        setting.sd,
        duration(sum(times) / len(times)) if times else None,
        round(sum(hours), 4) if hours else None,
        round(sum(speeds) / len(speeds), 1) if speeds else None,
        max(peaks, default=None),
    ]


def _cell(value: Any) -> str:
    """A value as text; a dash if it is unknown."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def board_as_csv(board: Leaderboard) -> str:
    """The leaderboard as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(board_rows(board))
    return text.getvalue()


def board_as_markdown(board: Leaderboard) -> str:
    """The leaderboard as a Markdown table, with the verdict below it."""
    header, *rows = [[_cell(cell).replace("|", "\\|") for cell in row] for row in board_rows(board)]
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{board.verdict.text}\n"


def show_proposal(console: Console, proposal: Proposal) -> None:
    """Print the reasons for a proposal and the command that runs it."""
    for reason in proposal.reasons:
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    if proposal.command:
        console.print(f"\n  {proposal.command}", markup=False, highlight=False, soft_wrap=True)
