"""Does speed cost anything? The same cells with and without each shortcut, five seeds, real tasks.

    python scripts/check_scores.py --data-dir GLUE [--tasks cola,mrpc] [--epochs 3] [--output DIR]

Arms that should agree stand side by side: bf16 and fp32, our dropout and torch's, seeds in one pass
and one after another, hidden states of frozen lower layers from the file and computed in every step.
Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from cells import Failed, layers_of, train, upper_half
from rich.console import Console
from rich.table import Table

UPPER = "the upper half"  # of the backbone's layers
# Arm -> what `train` is given beside task, data and seeds, and whether torch draws dropout's masks.
ARMS: dict[str, tuple[tuple[str, ...], bool]] = {
    "all layers, bf16": (("--precision", "bf16"), False),
    "all layers, fp32": (("--precision", "fp32"), False),
    "all layers, bf16, torch's dropout": (("--precision", "bf16"), True),
    "all layers, bf16, seeds in one pass": (("--precision", "bf16", "--stack", "on"), False),
    "upper half, bf16, trunk from the file": (("--precision", "bf16", "--layers", UPPER), False),
    "upper half, bf16, trunk in every step": (
        ("--precision", "bf16", "--layers", UPPER, "--trunk-cache", "0"),
        False,
    ),
}


def main() -> None:
    """Run what is missing and print the table."""
    if sys.argv[1:2] == ["--with-torch-dropout"]:
        _train_with_torch_dropout(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--tasks", default="cola,mrpc")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--seeds", default="5")
    parser.add_argument("--output", type=Path, default=Path("runs-scores"))
    given = parser.parse_args()
    upper = upper_half(layers_of(given.backbone))
    table = Table("task", "arm", "metric", "mean ± deviation", "best", "seeds", "examples/s")
    for task in given.tasks.split(","):
        for number, (arm, (options, torch_dropout)) in enumerate(ARMS.items()):
            program = ["-m", "adaptertune"]
            if torch_dropout:
                program = [str(Path(__file__)), "--with-torch-dropout"]
            arguments = [
                "--task", task, "--data-dir", given.data_dir, "--backbone", given.backbone,
                "--epochs", given.epochs, "--seeds", given.seeds,
                "--output", str(given.output / str(number)),
                *(upper if word == UPPER else word for word in options),
            ]  # fmt: skip
            cell = train(arguments, program)
            if isinstance(cell, Failed):
                sys.exit(cell.code)
            speed = statistics.median(cell.cost("examples_per_second"))
            table.add_row(
                task,
                arm,
                cell.metric,
                cell.score,
                f"{100 * cell.spread['best']:.1f}",
                str(cell.spread["n"]),
                f"{speed:.0f}",
            )
    Console().print(table)
    Console().print(
        "Each seed's best epoch on validation, mean ± sample deviation over seeds, in %."
    )


def _train_with_torch_dropout(arguments: list[str]) -> None:
    import torch

    from adaptertune.cli import main as command_line
    from adaptertune.model.dropout import Dropout

    def mask(
        self: Dropout, shape: torch.Size, rate: float, dtype: torch.dtype
    ) -> tuple[torch.Tensor, float]:
        seed = int(self._bits.integers(2**62))  # torch's generator, seeded anew for each mask
        generator = torch.Generator().manual_seed(seed)
        return torch.empty(shape, dtype=dtype).bernoulli_(1 - rate, generator=generator), 1 / (
            1 - rate
        )

    Dropout.mask = mask  # type: ignore[method-assign]
    sys.argv[1:] = arguments
    command_line()


if __name__ == "__main__":
    main()
