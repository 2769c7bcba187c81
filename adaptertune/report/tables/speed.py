"""What ``bench`` measured, as rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from adaptertune.report.tables import count, data_note, percent, plural, size, table, titled
from adaptertune.runs.analyses import BenchResult, PassSeconds

PARTS = {
    "batch": "batch making",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimiser",
    "total": "whole step",
}
MEMORY = {
    "trained_weights": ("weights that train", "fp32"),
    "frozen_weights": ("frozen weights", "in the compute type"),
    "gradients": ("gradients", ""),
    "optimizer": ("optimiser", "two moments of what trains"),
    "activations": ("activations", "kept from forward for backward, masks included"),
    "peak": ("peak", "weights, optimiser and the most beside them at a time"),
}


def bench(result: BenchResult) -> RenderableType:
    """Step time and memory of each method, and the latency of the first."""
    return Group(_training(result), _memory(result), _inference(result))


def _training(result: BenchResult) -> RenderableType:
    labels = [speed.label for speed in result.training]
    shown = table("milliseconds", *labels, right=labels)
    for part, name in PARTS.items():
        seconds = [getattr(speed.seconds, part) for speed in result.training]
        style = "bold" if part == "total" else None
        shown.add_row(name, *(_milliseconds(value) for value in seconds), style=style)
    shown.add_section()
    speeds = [f"{speed.examples_per_second:.1f}" for speed in result.training]
    shown.add_row("examples/s", *speeds, style="bold")
    shown.add_row("GFLOP a step", *(f"{one.flops_per_step / 1e9:.1f}" for one in result.training))
    shares = [percent(speed.limit_share) for speed in result.training]
    shown.add_row("% of the matrix-product limit", *shares)
    title = (
        f"Training step · {result.task}, {result.backbone.name}, {result.device}, "
        f"{result.precision}{data_note(result.data)}"
    )
    cached = "".join(
        f"{speed.label} without layers 0-{speed.cached_layers - 1}: a run computes them once, for all "
        "steps (trunk cache). "
        for speed in result.training
        if speed.cached_layers
    )
    note = cached + (
        f"{result.num_steps} steps each, in turn, on {result.num_batches} batches that stand for an "
        f"epoch's ({count(round(result.mean_tokens))} tokens on average, padding included). "
        f"Limit: {result.limit_flops_per_second / 1e9:,.0f} GFLOP/s in a product of the model's own "
        f"size, measured here on {plural(result.num_threads, 'thread')}. FLOP: the products that a step "
        "needs."
    )
    return Group(titled(title, shown), Text(note, style="dim"), "")


def _memory(result: BenchResult) -> RenderableType:
    labels = [speed.label for speed in result.training]
    shown = table("memory", *labels, "", right=labels)
    for part, (name, remark) in MEMORY.items():
        sizes = [size(getattr(speed.memory, part)) for speed in result.training]
        style = "bold" if part == "peak" else None
        shown.add_row(name, *sizes, Text(remark, style="dim"), style=style)
    of_what = "device" if result.device.startswith("cuda") else "process (libraries included)"
    note = f"At the epoch's largest batch. With all that is compared here, the {of_what} took "
    note += f"{size(result.peak_process_bytes)}."
    return Group(titled("Memory in training", shown), Text(note, style="dim"), "")


def _inference(result: BenchResult) -> RenderableType:
    columns = ["batch", "median ms", "90th percentile", "examples/s"]
    has_adapters = any(latency.without_adapters for latency in result.inference)
    extra = ["without: median ms", "90th percentile", "adapters cost %"] if has_adapters else []
    shown = table(*columns, *extra, right=columns + extra)
    for latency in result.inference:
        cells = [
            str(latency.batch_size),
            *_spread(latency.own),
            f"{latency.batch_size / latency.own.median:.1f}",
        ]
        if latency.without_adapters:
            without = latency.without_adapters
            cells += [*_spread(without), f"{100 * (latency.own.median / without.median - 1):+.1f}"]
        shown.add_row(*cells)
    title = (
        f"Inference · {result.training[0].label}, {result.inference[0].length} tokens, the median"
    )
    return titled(title, shown)


def _spread(seconds: PassSeconds) -> tuple[str, str]:
    return _milliseconds(seconds.median), _milliseconds(seconds.percentile_90)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
