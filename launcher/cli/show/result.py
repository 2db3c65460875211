"""How the result of a finished run looks to a person."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.words import about_the_data, counted
from train.result import AnswerPair, Evaluation, Finished


def goodput_line(shares: Mapping[str, float]) -> str:
    """The shares of the time of all attempts, the largest first."""
    words = {
        "steps": "training",
        "start": "starting",
        "save": "saving",
        "evaluate": "evaluating",
        "lost": "lost",
    }
    ordered = sorted(shares, key=lambda use: -shares[use])
    return f"Time on the machines: {', '.join(f'{shares[use]:.1%} {words[use]}' for use in ordered)}."


def show_result(console: Console, result: Finished) -> None:
    """Print the scores of base and tuned model, their answers, and what the run cost."""
    if result.evaluation.tuned:
        console.print(_verdict_table(result.evaluation))
    for number, entry in enumerate(result.answers, 1):
        _show_answer(console, number, entry)
    if result.best.step is not None:
        console.print(
            f"\nEvaluated checkpoint: step {result.evaluated_step} of {result.total_steps}, the lowest"
            f" validation loss ({result.best.validation_loss:.3f}).",
            highlight=False,
        )
    if result.ended_early:
        console.print(f"Ended early at step {result.step}: {result.ended_early}.", highlight=False)
    if data := about_the_data(result.data):
        console.print(data, highlight=False)
    minutes, seconds = divmod(int(result.seconds_since_first_submit or 0), 60)
    console.print(
        f"{result.samples} samples, {result.tokens:,} tokens, {counted(result.attempts, 'attempt')},"
        f" {minutes} min {seconds:02d} s, at most {max(result.peak_rss_gb_per_rank):.2f} GB per rank.",
        highlight=False,
    )
    if result.goodput:
        console.print(goodput_line(result.goodput), highlight=False)


def _show_answer(console: Console, number: int, entry: AnswerPair) -> None:
    """Print a question with the answers of base and tuned model and the reference."""
    console.print(f"\n[bold]Question {number}[/] {escape(entry.question)}", highlight=False)
    texts = (
        ("base", "red", entry.base),
        ("tuned", "green", entry.tuned),
        ("reference", "dim", entry.reference),
    )
    for name, style, text in texts:
        if text is not None:
            line = escape(" ".join(text.split()))
            console.print(f"  [{style}]{name:>9}[/]  {line}", highlight=False, soft_wrap=False)


def _verdict_table(evaluation: Evaluation) -> Table:
    """A table with one row per measure of each set."""
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
    for set_name, scores in evaluation.tuned.items():
        before = evaluation.base.get(set_name)
        base = before.measures if before else {}
        kind = "held-out rows" if scores.set == "held_out" else "rows"
        for key, new in scores.measures.items():
            old = base.get(key)
            table.add_row(
                f"{titles[set_name]} ({scores.rows} {kind})" if key == "loss" else "",
                measures[key],
                f"{old:.3f}" if old is not None else "-",
                f"{new:.3f}",
                f"{new - old:+.3f}" if old is not None else "-",
            )
    return table
