"""Cells sorted into methods and rows, what these are called, and which cell stands for a row.

Cells that differ only in learning rate, epochs or size are candidates of one method.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from adaptertune import config as configuration
from adaptertune import paths, stats
from adaptertune.report.evidence import SINCE, Cell
from adaptertune.report.tables import number
from adaptertune.runs import selection

# What a search varies: cells that differ in nothing else are candidates of one method.
SEARCHED = ("training.learning_rate", "training.epochs")
SIZE_KEYS = ("method.size", "method.k", "method.rank")
FIXED_SIZE = 64  # the paper's
FAMILIES = {
    "full": "full fine-tuning",
    "adapter": "adapters",
    "top_layers": "top layers",
    "layernorm": "LayerNorms only",
    "bitfit": "biases only (BitFit)",
    "lora": "LoRA",
    "ia3": "(IA)³",
}
SHORT_NAMES = {
    "training.learning_rate": "lr",
    "training.epochs": "epochs",
    "training.batch_size": "batch size",
    "training.max_length": "max length",
    "method.init_std": "init std",
    "method.size": "size",
    "method.k": "k",
    "init_from": "from",
}

# A row's identity: family, sizes it may choose from, and what else sets it apart.
RowKey = tuple[str, tuple[int, ...], str]


def label(family: str, sizes: Sequence[int], variant: str) -> str:
    """``adapters 64``, ``adapters, best of 8/64/256``, ``top 2 layers, recipe official-code``."""
    name = FAMILIES[family]
    if len(sizes) > 3:
        name += f", best of {sizes[0]} to {sizes[-1]}"
    elif len(sizes) > 1:
        name += f", best of {'/'.join(map(str, sizes))}"
    elif sizes and family == "top_layers":
        name = "top layer" if sizes[0] == 1 else f"top {sizes[0]} layers"
    elif sizes:
        name += f" {sizes[0]}"
    return f"{name}, {variant}" if variant else name


def in_words(name: str, size: float | None = None) -> str:
    """A run's name of a method in these words: ``adapters 64`` for ``adapter-64``, or for ``adapter``
    of that size; of a variant, whose settings the name tells, as it is.
    """
    family, _, rest = name.partition("-")
    if family not in FAMILIES or not (rest.isdigit() or not rest):
        return name if size is None else f"{name} {size:g}"
    known = rest or size
    return label(family, (int(known),) if known else (), "")


def describe(settings: Mapping[str, object]) -> str:
    """Settings by their short names: ``size 64, lr 1e-3, epochs 3``."""
    return ", ".join(f"{SHORT_NAMES.get(key, key)} {number(v)}" for key, v in settings.items())


def size(cell: Cell) -> int | None:
    """The bottleneck size, the rank or the number of top layers; None for a method without any."""
    flat = (cell.settings.get(key) for key in SIZE_KEYS)
    return next((int(found) for found in flat if found is not None), None)


def choose(cells: Sequence[Cell]) -> Cell:
    """The candidate that a sweep chooses, by the headline metric on the selecting split: under the
    paper's protocol the one with the best run, else the one with the highest mean over seeds. Among
    several sizes it is the best of those that were chosen for each.

    With many seeds a high best comes easily: it is taken of the seeds that all candidates have, as long
    as there are such. With few a high mean does: it is taken of cells with all that were asked for.
    """
    of_size: dict[int | None, list[Cell]] = {}
    for cell in cells:
        of_size.setdefault(size(cell), []).append(cell)
    return _best([_best(group) for group in of_size.values()])


def _best(cells: Sequence[Cell]) -> Cell:
    ordered = sorted(cells, key=lambda cell: cell.search.place if cell.search else math.inf)
    by = selection.statistic_of(cells[0].protocol)
    shared = set.intersection(*(cell.tried for cell in ordered))
    candidates = []
    for cell in ordered if by == "best" else _complete(ordered):
        counted = shared if by == "best" and shared else cell.tried
        by_seed = cell.values(cell.selecting, cell.headline)
        scores = tuple(score for seed, score in by_seed.items() if seed in counted)
        missing = len(counted) - len(scores)
        candidates.append(selection.Candidate(cell.digest, scores, missing))
    chosen = selection.select(candidates, by)
    return next((cell for cell in ordered if chosen and cell.digest == chosen.digest), ordered[0])


def _complete(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Those with all seeds that a sweep asked for; if there is none, those with the most.

    What no sweep lists, it may be from an earlier one, needs as many as the least of the others; and
    where no sweep was made, as many as an interval needs.
    """
    asked = [cell.search.num_seeds for cell in cells if cell.search]
    others = min(asked, default=stats.FEWEST)
    complete = [
        cell
        for cell in cells
        if len(cell.tried) >= (cell.search.num_seeds if cell.search else others)
    ]
    most = max(len(cell.tried) for cell in cells)
    return complete or [cell for cell in cells if len(cell.tried) == most]


def alike(cell: Cell, other: Cell) -> bool:
    """Whether two cells of a task are trained alike but for the method's own settings and what a search
    varies: with the same lengths, batches, precision, first weights, ….
    """
    mine, others = _common(cell), _common(other)
    return all(mine.get(key) == others.get(key) for key in mine.keys() | others.keys())


def _common(cell: Cell) -> dict[str, object]:
    """The settings that are neither the method's own nor searched."""
    found = {**_usual(cell), **cell.settings}
    if cell.facts.init_from:  # no two methods start from one run, but what each learnt there may be
        found["init_from"] = cell.facts.init_from.task
    return {
        key: value
        for key, value in found.items()
        if not key.startswith("method.") and key not in SEARCHED
    }


def by_method(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """Cells by family and by what sets them apart within it, in words."""
    found: dict[tuple[str, str], list[Cell]] = {}
    precision = Counter(cell.facts.precision for cell in cells).most_common(1)[0][0]
    for family in FAMILIES:
        members = [cell for cell in cells if cell.config["method"]["name"] == family]
        for variant, group in _variants(members, {"precision": precision}).items():
            found[family, variant] = group
    return found


def rows(methods: Mapping[tuple[str, str], Sequence[Cell]]) -> dict[RowKey, Sequence[Cell]]:
    """Cells by row, in the order of the table. A method of several sizes has a row for the best of
    them, and adapters one for a fixed size too.
    """
    found: dict[RowKey, Sequence[Cell]] = {}
    for (family, variant), group in methods.items():
        sizes = tuple(sorted({known for cell in group if (known := size(cell)) is not None}))
        found[family, sizes, variant] = group
        if family == "adapter" and len(sizes) > 1:
            fixed = _fixed_size(group, sizes)
            found[family, (fixed,), variant] = [cell for cell in group if size(cell) == fixed]
    return found


def _fixed_size(cells: Sequence[Cell], sizes: Sequence[int]) -> int:
    """The paper's 64; failing that the size that was tried on most tasks."""
    if FIXED_SIZE in sizes:
        return FIXED_SIZE

    def num_tasks(one: int) -> int:
        return len({cell.facts.task for cell in cells if size(cell) == one})

    return max(sizes, key=lambda one: (num_tasks(one), -one))


def _variants(cells: Sequence[Cell], most: Mapping[str, object]) -> dict[str, list[Cell]]:
    """Cells of one family by what sets them apart besides what is searched, in words.

    A method's own settings, the recipe, the run that it started from and pruning always do. Others do
    where they differ on one task: two tasks may well ask for different lengths. What the recipe itself
    says is not named.

    Args:
        most: what most cells of a comparison have where no recipe says anything; it is not named either.
    """
    free = {*SEARCHED, *SIZE_KEYS}
    by_task: dict[str, list[Cell]] = {}
    for cell in cells:
        by_task.setdefault(cell.task_digest, []).append(cell)
    telling = []
    for key in sorted({key for cell in cells for key in cell.settings} - free):
        always = key in ("recipe", "init_from", "pruned") or key.startswith("method.")
        groups = [cells] if always else by_task.values()
        differs = any(len({_frozen(cell, key) for cell in group}) > 1 for group in groups)
        if differs or (always and any(_is_unusual(cell, key) for cell in cells)):
            telling.append(key)
    if "recipe" in telling:  # first; what it decides is usual for its cells
        telling = ["recipe", *(key for key in telling if key != "recipe")]
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        usual = {**most, **_usual(cell)}
        text = ", ".join(
            f"{_name(key)} {number(cell.settings.get(key))}"
            for key in telling
            if cell.settings.get(key) != usual.get(key)
        )
        found.setdefault(text, []).append(cell)
    return dict(sorted(found.items()))  # the usual one, which has no words, first


def _is_unusual(cell: Cell, key: str) -> bool:
    """Whether a setting is not that of the default recipe, or of the method's own defaults."""
    return key in cell.settings and cell.settings[key] != _usual(cell).get(key)


def _usual(cell: Cell) -> Mapping[str, object]:
    return SINCE | _recipe_settings(cell.config["recipe"], cell.config["method"]["name"])


@functools.cache
def _recipe_settings(name: str, method: str) -> dict[str, object]:
    """The settings that nobody needs to name: those of the cell's recipe, of the default one, and the
    method's own defaults.
    """
    usual: dict[str, object] = {"recipe": configuration.DEFAULTS["recipe"]}
    for kind in configuration.METHODS:
        if kind.model_fields["name"].default == method:
            fields = kind.model_fields.items()
            usual |= {f"method.{key}": one.default for key, one in fields if not one.is_required()}
    if name in paths.names("recipes"):
        recipe = configuration.load_recipe(name)
        for own, settings in recipe.method.items():
            if own == method:
                usual |= {f"method.{key}": value for key, value in settings.items()}
        usual |= {f"training.{key}": value for key, value in recipe.training.items()}
    return usual


def _frozen(cell: Cell, key: str) -> str:
    return json.dumps(cell.settings.get(key))


def _name(key: str) -> str:
    return SHORT_NAMES.get(key) or key.rpartition(".")[2].replace("_", " ")
