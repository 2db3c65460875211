"""How the result of a finished run looks to a person. Prints; decides nothing."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.words import about_the_data
from train.rundir import RunDir


def goodput_line(shares: Mapping[str, float]) -> str:
    """Where the time of all attempts went, the largest share first."""
    words = {
        "steps": "in steps that count",
        "start": "starting",
        "save": "saving",
        "evaluate": "evaluating",
        "lost": "lost",
    }
    ordered = sorted(shares, key=lambda use: -shares[use])
    told = ", ".join(f"{shares[use]:.1%} {words[use]}" for use in ordered)
    return f"Of the time on the machines, {told}."


def show_result(console: Console, run: RunDir) -> None:
    """Base against tuned, answers before and after, and where everything is."""
    result = json.loads(run.result.read_text())
    base, tuned = result["evaluation"]["base"], result["evaluation"]["tuned"]
    if tuned:
        console.print(_verdict_table(base, tuned))
    for number, entry in enumerate(result["answers"], 1):
        console.print(f"\n[bold]Question {number}[/] {escape(entry['question'])}", highlight=False)
        for name, style in (("base", "red"), ("tuned", "green"), ("reference", "dim")):
            if entry[name] is None:
                continue
            text = " ".join(entry[name].split())
            console.print(f"  [{style}]{name:>9}[/]  {escape(text)}", highlight=False, soft_wrap=False)
    best = result["best"]
    if best["step"] is not None:
        console.print(
            f"\nAssessed step {result['evaluated_step']} of {result['total_steps']}, the best by validation"
            f" loss ({best['validation_loss']:.3f}).",
            highlight=False,
        )
    if early := result.get("ended_early"):
        console.print(f"Ended early at step {result['step']}: {early}.", highlight=False)
    if told := about_the_data(result.get("data")):
        console.print(told, highlight=False)
    minutes, seconds = divmod(int(result["seconds_since_first_submit"] or 0), 60)
    console.print(
        f"{result['samples']} samples, {result['tokens']:,} tokens, {result['attempts']} attempt(s),"
        f" {minutes} min {seconds:02d} s, at most {max(result['peak_rss_gb_per_rank']):.2f} GB a rank.",
        highlight=False,
    )
    if shares := result.get("goodput"):
        console.print(goodput_line(shares), highlight=False)


def _verdict_table(base: dict[str, Any], tuned: dict[str, Any]) -> Table:
    table = Table(title="Base against tuned", title_justify="left", title_style="bold")
    for name in ("set", "measure", "base", "tuned", "change"):
        table.add_column(name, justify="left" if name in ("set", "measure") else "right")
    titles = {"task": "task", "general": "general knowledge"}
    measures = {
        "loss": "loss (nats)",
        "perplexity": "perplexity",
        "accuracy": "accuracy",
        "macro_f1": "macro-F1",
    }
    for set_name, scores in tuned.items():
        before = base.get(set_name, {})
        kind = "held-out rows" if scores["set"] == "held_out" else "rows"
        for key, title in measures.items():
            if scores.get(key) is None:
                continue
            old, new = before.get(key), scores[key]
            table.add_row(
                f"{titles[set_name]} ({scores['rows']} {kind})" if key == "loss" else "",
                title,
                f"{old:.3f}" if old is not None else "-",
                f"{new:.3f}",
                f"{new - old:+.3f}" if old is not None else "-",
            )
    return table
