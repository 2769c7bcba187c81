"""Commands that make what a store lacks, from the configurations of what it has."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from adaptertune import catalogue
from adaptertune.config import DEFAULTS, OPTIONS, flatten
from adaptertune.report.tables import number

# Settings with a place of their own in a command and in a result.
ELSEWHERE = {"task", "backbone", "data.source", "data.folder", "seeds", "offline", "output"}


def train_command(config: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """The command line that trains a configuration.

    Of settings only those are named that a user had chosen; the rest comes from where it came from.
    """
    words = ["adaptertune", "train", "--task", str(config["task"])]
    for key in ("method.size", "method.k"):
        value = dict(flatten(config)).get(key)
        if value is not None:
            words += [OPTIONS[key], str(value)]
    words += words_of(config, origins, {"method.size", "method.k"})
    seeds = list(config["seeds"])
    if seeds == list(range(len(seeds))):
        words += ["--seeds", str(len(seeds))]
    elif len(seeds) == 1:
        words += ["--seed", str(seeds[0])]
    else:
        words += ["--set", f"seeds={seeds}"]
    return shlex.join(words)


def words_of(
    config: Mapping[str, Any],
    origins: Mapping[str, str],
    in_words: Collection[str],
    *,
    only_settings: str = "-",
) -> list[str]:
    """The options for what a user had chosen of a configuration, its task and seeds apart.

    Args:
        in_words: dotted keys that a command has already.
        only_settings: what keys begin with that a command has no option for, but ``--set``.
    """
    words: list[str] = []
    if config["offline"]:
        words.append("--offline")
    if not (config["offline"] and config["backbone"] == catalogue.EMBEDDED):
        words += ["--backbone", str(config["backbone"])]
    words += _words_of_data(config, origins)
    for key, value in flatten(config):
        is_default = key == "recipe" and value == DEFAULTS["recipe"]
        if key in ELSEWHERE or key in in_words or is_default or not is_chosen(origins.get(key)):
            continue
        words += _words_of_setting(key, value, has_option=not key.startswith(only_settings))
    if config["output"] != "runs":
        words += ["--output", str(config["output"])]
    return words


def _words_of_data(config: Mapping[str, Any], origins: Mapping[str, str]) -> list[str]:
    """The options for where the rows come from, unless they are looked for there of themselves."""
    source, folder = config["data"]["source"], config["data"]["folder"]
    if folder is not None:
        return ["--data-dir", str(folder)] if is_chosen(origins.get("data.folder")) else []
    usual = "sample" if config["offline"] else "hub"
    return [] if source == usual else ["--set", f"data.source={source}"]


def _words_of_setting(key: str, value: Any, *, has_option: bool) -> list[str]:
    """The words for one setting: its own option, or ``--set`` for a value that the option can't give."""
    if key == "method.layers" and value is None:
        value = "all"
    if has_option and key in OPTIONS:
        if value is True:  # a flag
            return [OPTIONS[key]]
        if key == "init_from" and value:
            return [word for run in value for word in (OPTIONS[key], run)]
        if value is not None and value is not False and value != []:
            return [OPTIONS[key], written(value)]
    return ["--set", f"{key}={written(value)}"]


def written(value: Any) -> str:
    """A value as it is typed: as in all tables, unless that would round it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        short = number(value)
        return short if float(short) == value else json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, list) and value else json.dumps(value)


def is_chosen(origin: str | None) -> bool:
    """Whether a value came from an option or from a file of the user's."""
    if origin is None or origin == "--offline":
        return False
    return origin.startswith("--") or ".yaml" in origin or ".yml" in origin
