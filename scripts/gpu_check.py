"""What a GPU gains, and whether it costs anything: one table to paste into a report.

    python scripts/gpu_check.py [--task rte --data-dir GLUE] [--backbone minilm] [--device cuda:1]

Trains the same cell by `adaptertune train` in the ways that should agree: bf16 and fp32, seeds in one
pass and one after another, the frozen lower layers' results from the cache and computed in every step,
steps as CUDA graphs and launched, layers compiled and not. Without --data-dir on the embedded sample,
whose scores say nothing about GLUE.
Goes on where it was stopped; with --device cpu, the same without a GPU.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from cells import Cell, Failed, layers_of, train, upper_half

import adaptertune

FIRST = "adapters in all layers"
HEADER = ("", "precision", "examples/s", "to the first", "first epoch, s", "peak memory", "score")


def ways(num_layers: int) -> dict[str, tuple[str, ...]]:
    """Row of the table -> what ``train`` is given for it."""
    upper = ("--layers", upper_half(num_layers))
    return {
        FIRST: ("--stack", "off"),
        "… in fp32": ("--stack", "off", "--precision", "fp32"),
        "… without CUDA graphs": ("--stack", "off", "--set", "cuda_graphs=false"),
        "… seeds in one pass": ("--stack", "on"),
        "… compiled": ("--stack", "off", "--compile"),
        "… compiled, seeds in one pass": ("--stack", "on", "--compile"),
        f"adapters in layers {upper[1]}, those below cached": ("--stack", "off", *upper),
        "… not cached": ("--stack", "off", *upper, "--trunk-cache", "0"),
    }


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="rte")
    parser.add_argument("--data-dir", help="folder in the official GLUE layout")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--batch-size", default="32")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, default=Path("runs-gpu-check"))
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            f"No GPU was found by torch {torch.__version__}: nothing was measured. "
            "With --device cpu the same is trained without one."
        )
    cells: dict[str, Cell | Failed] = {}
    for number, (name, options) in enumerate(ways(layers_of(given.backbone)).items()):
        print(f"{name}: {' '.join(options)}", file=sys.stderr)
        cells[name] = train([*_settings(given, number), *options])
    print(f"{_machine(given.device)}\n\n{table(cells)}\n")
    print(
        f"{given.task}{'' if given.data_dir else ' (embedded sample)'}, {given.backbone}, batch "
        f"{given.batch_size}, {given.seeds} seeds of {given.epochs} epochs. examples/s: training alone "
        "in the last epoch, median over seeds (in one pass: all seeds' together). First epoch: a "
        "seed's, with what warms up. Score: each seed's best epoch on validation, mean ± sample "
        "deviation over seeds, in %."
    )
    if given.device == "cpu":
        print("\nNo GPU was used: measured on a CPU, this says nothing about a GPU.")


def _settings(given: argparse.Namespace, number: int) -> list[str]:
    """Each way has a folder of its own: with the trunk cache and without, it is the same run."""
    data = ("--data-dir", given.data_dir) if given.data_dir else ("--offline",)
    return [
        "--task", given.task, "--backbone", given.backbone, "--batch-size", given.batch_size,
        "--epochs", given.epochs, "--seeds", given.seeds, "--device", given.device,
        "--output", str(given.output / str(number)), *data,
    ]  # fmt: skip


def table(cells: Mapping[str, Cell | Failed]) -> str:
    """Markdown. What could not be trained says why; a missing first row leaves no ratios."""
    first = cells[FIRST]
    lines = [HEADER, ("---",) * len(HEADER)]
    for name, cell in cells.items():
        if isinstance(cell, Failed):
            lines.append((name, *[""] * (len(HEADER) - 2), cell.reason.replace("|", "/")))
            continue
        speed = cell.epoch(-1, "examples_per_second")
        ratio = ""
        if isinstance(first, Cell):
            ratio = f"{speed / first.epoch(-1, 'examples_per_second'):.2f}"
        lines.append(
            (
                name,
                cell.result["precision"],
                f"{speed:.0f}",
                ratio,
                f"{cell.epoch(0, 'train_seconds'):.1f}",
                f"{max(cell.cost('peak_memory_bytes')) / 1e9:.2f} GB",
                f"{cell.metric} {cell.score}",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(device: str) -> str:
    versions = f"adaptertune {adaptertune.__version__}, torch {torch.__version__}"
    if device == "cpu":
        return f"{platform.processor() or platform.machine()}, {versions}"
    facts = torch.cuda.get_device_properties(torch.device(device))
    return (
        f"{facts.name} (compute capability {facts.major}.{facts.minor}, "
        f"{facts.total_memory / 1e9:.0f} GB), CUDA {torch.version.cuda}, {versions}"
    )


if __name__ == "__main__":
    main()
