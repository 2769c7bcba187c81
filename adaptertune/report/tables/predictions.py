"""Predictions, and the files of a submission, as rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adaptertune.report import tables
from adaptertune.tasks import Task

if TYPE_CHECKING:
    from adaptertune.runs.load import Run
    from adaptertune.runs.predict import Answer, Summary
    from adaptertune.share.glue import Entry

BAR_LABELS = 6  # with more labels than this only the likeliest ones are shown


def table(task: Task, texts: Sequence[str], answers: Sequence[Answer]) -> RenderableType:
    """Texts with their predictions; a bar for each label's probability, the likeliest first."""
    made = tables.table("text", "prediction", "")
    step = 2 if task.is_pair else 1
    for number, answer in enumerate(answers):
        text = Text("\n".join(texts[number * step : (number + 1) * step]))
        if answer.probabilities is None:
            made.add_row(text, f"{answer.prediction:.3f}", "")
            continue
        assert task.labels is not None
        likeliest = sorted(zip(answer.probabilities, task.labels, strict=True), reverse=True)
        bars = Table.grid(padding=(0, 1))
        for share, label in likeliest[:BAR_LABELS]:
            bar = ProgressBar(total=1.0, completed=share, width=16)
            bars.add_row(bar, Text(f"{100 * share:5.1f} %"), Text(label))
        made.add_row(text, Text(str(answer.prediction), style="bold"), bars)
    return made


def conclusion(run: Run, summary: Summary, num_bad: int) -> RenderableType:
    """Rows, pace, predictions, what was cut and what was set aside; and which run answered."""
    pace = f", {summary.num_rows / summary.seconds:,.0f} a second" if summary.seconds else ""
    answered = tables.plural(summary.num_rows, "row")
    lines = [f"Answered    {answered} in {tables.duration(summary.seconds)}{pace}"]
    if summary.counts and summary.num_rows > 1:
        most = sorted(summary.counts.items(), key=lambda item: -item[1])[:BAR_LABELS]
        lines.append("Predicted   " + ", ".join(f"{label} {count:,}" for label, count in most))
    if summary.num_truncated:
        cut = tables.plural(summary.num_truncated, "row")
        lines.append(f"Cut         {cut} longer than {run.max_length} tokens")
    if num_bad:
        lines.append(f"Set aside   {tables.plural(num_bad, 'bad row')}")
    metric = tables.METRIC_NAMES[run.task.headline]
    score = f"{metric} {tables.percent(run.score)} on {run.result.selecting_split}"
    origin = ", imported" if run.result.imported else ""
    lines.append(f"Run         {run.folder.path} ({score}{origin})")
    return Text("\n".join(lines))


def submission(path: Path, planned: Sequence[Entry]) -> RenderableType:
    """The files of a submission and who answered them."""
    made = tables.table("file", "rows", "run", "score, in per cent", right=("rows",))
    for entry in planned:
        if entry.run is None:
            told = Text(f"filled with {entry.constant}: {entry.why}", style="yellow")
            made.add_row(entry.file, tables.count(entry.num_rows), told, "")
            continue
        run = entry.run
        metric = tables.METRIC_NAMES[run.task.headline]
        score = Text(f"{metric} {tables.percent(run.score)} on {run.result.selecting_split}")
        if run.result.imported:
            score.append("\nimported: nothing is known of its training", "yellow")
        elif run.result.data.partial:
            score.append(f"\npartial training set, {run.result.data.num_train:,} rows", "yellow")
        name = f"{run.cell.path.parent.name}/{run.cell.path.name}, seed {run.result.seed}"
        made.add_row(entry.file, tables.count(entry.num_rows), Text(name), score)
    return Group(made, Text(f"Submission  {path} (upload it at https://gluebenchmark.com)"))
