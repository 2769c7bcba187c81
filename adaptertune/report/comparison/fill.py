"""Commands that fill the holes of a table: a training, or a search where the row is one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from adaptertune.report.commands import is_chosen, train_command, words_of, written
from adaptertune.report.comparison.methods import SEARCHED, SIZE_KEYS, choose
from adaptertune.report.evidence import Cell

# What a sweep has a list for; other keys are a grid's.
LISTS = {
    "method.size": "--sizes",
    "training.learning_rate": "--lrs",
    "training.epochs": "--epochs",
}


def fill_command(sizes: Sequence[int], members: Sequence[Cell], there: Sequence[Cell]) -> str:
    """For a row's hole: what was chosen for the row on another task, or the search that it is there.

    Epochs, lengths and whatever else is not the method's own are those of the task itself, or the two
    would not be comparable.

    Args:
        sizes: those that the row chooses from.
        members: the row's cells.
        there: the cells of other methods on the task and data that lack one.
    """
    own = [one for one in members if one.task_digest == members[0].task_digest]
    chosen, beside = choose(own), choose(there)
    config = {**chosen.config, **{key: beside.config[key] for key in ("task", "data")}}
    taken = ["data."]
    if beside.config["recipe"] == chosen.config["recipe"]:  # else what differs is the recipe's
        rate = chosen.config["training"]["learning_rate"]
        config["training"] = {**beside.config["training"], "learning_rate": rate}
        taken.append("training.")

    def is_taken(key: str) -> bool:
        return key.startswith(tuple(taken)) and key != "training.learning_rate"

    origins = {key: origin for key, origin in chosen.origins.items() if not is_taken(key)}
    origins |= {key: origin for key, origin in beside.origins.items() if is_taken(key)}
    if len(sizes) > 1:
        return _search_command(config, origins, own, there if len(taken) > 1 else own)
    return train_command(config, origins)


def _search_command(
    config: Mapping[str, Any],
    origins: Mapping[str, str],
    searched: Sequence[Cell],
    there: Sequence[Cell],
) -> str:
    """The sweep over all that some cells have in the settings that a search varies, and over the epochs
    that others have.
    """
    words = ["adaptertune", "sweep", "--tasks", str(config["task"])]
    words += ["--methods", str(config["method"]["name"])]
    for key in (*SIZE_KEYS, *SEARCHED):
        found = there if key == "training.epochs" else searched
        values = sorted({cell.settings[key] for cell in found if key in cell.settings})
        is_default = not any(is_chosen(cell.origins.get(key)) for cell in found)
        if values and (key in SIZE_KEYS or not is_default):
            text = ",".join(map(written, values))
            words += [LISTS[key], text] if key in LISTS else ["--grid", f"{key}={text}"]
    seeds = sorted(config["seeds"])
    words += ["--seeds", str(sum(seed == at for at, seed in enumerate(seeds)) or 1)]
    if any(cell.search and cell.search.by_first_seed for cell in searched):
        words += ["--seeds-on", "winner"]
    in_words = {"method.name", "stack", *SIZE_KEYS, *SEARCHED}
    return shlex.join([*words, *words_of(config, origins, in_words, only_settings="method.")])
