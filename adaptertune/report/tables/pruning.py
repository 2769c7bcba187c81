"""What pruning a run cost and gained."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from adaptertune.config import written_layers
from adaptertune.report.tables import METRIC_NAMES, count, data_note, plural, spread, table, titled
from adaptertune.runs.analyses import Half, PruneResult


def pruning(result: PruneResult) -> RenderableType:
    """Scores, parameters and speed before and after; or that nothing may go."""
    metric, limit = METRIC_NAMES[result.headline], f"{100 * result.max_drop:g}"
    seeds = plural(len(result.seeds), "seed")
    title = f"Pruning · {result.task}, {seeds}{data_note(result.data)}"
    if not result.removed:
        text = f"No layer's adapters can go: each costs more than {limit} points of {metric}."
        if len(result.remaining) == 1:
            text = "Only one layer has adapters, and those stay."
        return titled(title, Text(f"{text} {plural(result.num_candidates, 'choice')} evaluated."))
    shown = table("", "before", "after", "difference", right=("before", "after", "difference"))
    for half, name in (
        (result.reporting, f"{metric} on the half not used for the choice"),
        (result.choosing, f"{metric} on the half that chose (optimistic)"),
    ):
        shown.add_row(
            f"{name}, {count(half.num_examples)} examples", *_scores(half, result.headline)
        )
    shown.add_row(
        "parameters in the checkpoint",
        count(result.trained_before),
        count(result.trained_after),
        f"{100 * (result.trained_after / result.trained_before - 1):+.1f} %",
    )
    for one in result.inference:
        before, after = one.before.median, one.after.median
        shown.add_row(
            f"ms a pass, batch {one.batch_size}, {one.length} tokens",
            f"{1000 * before:.1f}",
            f"{1000 * after:.1f}",
            f"{100 * (after / before - 1):+.1f} %",
        )
    remark = (
        f"Adapters removed from layers {written_layers(result.removed)}, "
        f"kept in {written_layers(result.remaining)}; LayerNorms and head stay as trained. "
        f"Chosen among {plural(result.num_candidates, 'choice')} to cost at most {limit} points on one "
        f"half of {result.split}, {count(result.choosing.num_examples)} "
        f"examples; the other has {count(result.reporting.num_examples)}. Times are medians, in turn."
    )
    if len(result.remaining) == 1:
        remark += " One layer's adapters always stay."
    return Group(titled(title, shown), Text(remark, style="dim"))


def _scores(half: Half, metric: str) -> tuple[str, str, str]:
    """Both sides' mean and deviation in per cent, and the mean difference of the same seed."""
    before, after = half.before[metric], half.after[metric]
    differences = [
        b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None
    ]
    known = len(differences) == len(before)
    return (
        spread(before),
        spread(after),
        f"{100 * sum(differences) / len(before):+.1f}" if known else "–",
    )
