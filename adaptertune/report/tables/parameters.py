"""Counts of parameters, as rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adaptertune.report.tables import count, percent, plural, size, table, titled

PART_NAMES = {"embeddings": "embeddings", "encoder": "layers less LayerNorms"}


def ledger(counts: Mapping[str, Any]) -> RenderableType:
    """Who trains, out of how many: ``counts`` as ``Ledger.as_json`` gives them."""
    parts = table("parameters", "total", "trained", right=("total", "trained"))
    for part in counts["parts"]:
        name = PART_NAMES.get(part["name"], part["name"])
        trained = count(part["trained"]) if part["trained"] else "–"
        parts.add_row(name, count(part["total"]), trained)
    parts.add_section()
    stored = counts["trained"] + counts["head"]
    parts.add_row("all", count(counts["total"]), f"[bold]{count(stored)}[/]")
    num_tasks = counts["num_tasks"]
    full_bytes = counts["stored_bytes"] / stored * (counts["all_parameters"] + counts["head"])
    shares = Table.grid(padding=(0, 2))
    shares.add_row(
        "trained without head",
        f"[bold]{count(counts['trained'])}[/]",
        f"{percent(counts['share_of_encoder_layers'], 2)} % of the encoder layers "
        f"({count(counts['encoder_layers'])}), the paper's denominator",
    )
    shares.add_row(
        "",
        "",
        f"{percent(counts['share_of_all_parameters'], 2)} % of all parameters "
        f"({count(counts['all_parameters'])}), which full fine-tuning trains",
    )
    shares.add_row(
        plural(num_tasks, "task"),
        f"[bold]{counts['multiple_of_encoder_layers']:.2f}x[/]",
        f"by the paper's denominator; {counts['multiple_of_all_parameters']:.2f}x of all parameters; "
        f"full fine-tuning {num_tasks}.00x",
    )
    shares.add_row(
        "on disk per task",
        f"[bold]{size(counts['stored_bytes'])}[/]",
        f"head included, in fp32; full fine-tuning {size(full_bytes)}",
    )
    return Group(titled("Ledger", parts), shares, "")


def sizes(bottlenecks: Sequence[int], all_counts: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Several bottleneck sizes side by side."""
    num_tasks = all_counts[0]["num_tasks"]
    number = plural(num_tasks, "task")
    tasks_of_encoder, tasks_of_all = f"{number}, of encoder", f"{number}, of all"
    columns = (
        "size",
        "trained",
        "% of encoder",
        "% of all",
        tasks_of_encoder,
        tasks_of_all,
        "on disk",
    )
    shown = table(*columns, right=columns)
    for bottleneck, counts in zip(bottlenecks, all_counts, strict=True):
        shown.add_row(
            str(bottleneck),
            count(counts["trained"]),
            percent(counts["share_of_encoder_layers"], 2),
            percent(counts["share_of_all_parameters"], 2),
            f"{counts['multiple_of_encoder_layers']:.2f}x",
            f"{counts['multiple_of_all_parameters']:.2f}x",
            size(counts["stored_bytes"]),
        )
    first = all_counts[0]
    note = (
        f"encoder: {count(first['encoder_layers'])} parameters of the Transformer layers, the paper's "
        f"denominator; all: {count(first['all_parameters'])}. Trained: without the head "
        f"({count(first['head'])}), which is stored too."
    )
    return Group(shown, Text(note, style="dim"), "")
