"""A store made of records: the files that training would leave, filled with given values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptertune import catalogue, tasks
from adaptertune import config as configuration
from adaptertune.files import write_json
from adaptertune.model import ledger
from adaptertune.report import comparison, evidence
from adaptertune.report.comparison import Group
from adaptertune.report.schema import Comparison, Entry, Row
from adaptertune.runs import results, store
from adaptertune.runs.plan import method_label

GIGABYTE = 10**9
# A seed's metrics on a split, or None if it diverged.
Scores = Mapping[str, Mapping[str, float | None]] | None


def add(
    root: Path,
    task: str,
    scores: Mapping[int, Scores],
    *,
    options: Mapping[str, Any] | None = None,
    asked: Sequence[int] | None = None,
    collapsed: Sequence[int] = (),
    sample: bool = False,
    partial: bool = False,
    rows: str = "rows",
    backbone: str = "minilm",
    seconds: float = 12.0,
    note: str = "made-up rows",
    init_from: results.InitFrom | None = None,
    stacked: bool = False,
) -> store.CellFolder:
    """One cell with its finished and diverged seeds.

    Args:
        scores: by seed: split -> metric -> fraction; None for a seed that diverged.
        options: configuration keys as a user would give them on the command line.
        asked: the seeds of the configuration, if more than have results.
    """
    given = {
        key: (value, configuration.OPTIONS.get(key, f"--set {key}"))
        for key, value in (options or {}).items()
    }
    given |= {"task": (task, "--task"), "backbone": (backbone, "--backbone")}
    given |= {"offline": (True, "--offline"), "seeds": (list(asked or scores), "--seeds")}
    given["output"] = (str(root), "--output")
    if not sample:
        given |= {"data.source": ("folder", "--data-dir"), "data.folder": ("glue", "--data-dir")}
    resolved = configuration.resolve(given)
    config, facts = resolved.config, resolved.task
    known = catalogue.known(backbone)
    assert known is not None
    counts = ledger.count(known.shape, config.method, facts.num_outputs).as_json()
    num_train = 800 if sample or partial else facts.rows.get("train", 16)
    data = results.DataFacts(
        source="sample" if sample else "folder",
        description=note,
        fingerprint=f"sha256:{'sample' if sample else rows}-{task}",
        num_train=num_train,
        num_train_complete=None if sample else facts.rows.get("train"),
        partial=partial,
        sample=sample,
    )
    plain = config.model_dump(mode="json")
    identity = {
        "task": tasks.canonical(facts),
        "method": plain["method"],
        "training": plain["training"],
        "backbone": backbone,
        "data": data.fingerprint,
        "protocol": config.protocol,
        "init_from": init_from and init_from.digest,
        "stacked": list(scores) if stacked else None,
    }
    digest = configuration.digest(identity)
    folder = store.cell_folder(root, facts.name, method_label(config.method), "minilm", digest)
    described = {"config": plain, "origins": dict(resolved.origins), "identity": identity}
    write_json(folder.config, described | {"digest": digest})
    for seed, by_split in scores.items():
        seed_folder = folder.seed(seed)
        result = results.SeedResult(
            status="diverged" if by_split is None else "finished",
            task=facts.name,
            seed=seed,
            digest=configuration.digest(identity | {"seed": seed}),
            config=plain,
            data=data,
            backbone=results.BackboneFacts(name=backbone, sha256=f"sha-{backbone}", commit=None),
            precision="fp32",
            device="cpu",
            ledger=counts,
            selecting_split="held-out" if config.protocol == "held-out" else facts.evaluation[0],
            num_epochs=config.training.epochs,
            kept_epoch=None if by_split is None else config.training.epochs,
            diverged_epoch=1 if by_split is None else None,
            scores={
                split: results.SplitScores(
                    num_examples=100, values=dict(values), collapsed=seed in collapsed
                )
                for split, values in (by_split or {}).items()
            },
            checkpoint=None,
            init_from=init_from,
            versions={"adaptertune": "0.1.0", "torch": "2.13.0"},
            cost=results.Cost(
                train_seconds=seconds,
                evaluate_seconds=1.0,
                examples_per_second=100.0,
                peak_memory_bytes=GIGABYTE,
                resumed=0,
                finished_at="2026-11-23T04:07:08+00:00",
                host="here",
            ),
        )
        store.write_result(seed_folder.result, result)
        if by_split is not None:
            seed_folder.epochs.write_text(
                _epochs(config.training.epochs, by_split, seed in collapsed)
            )
    return folder


def swept(
    root: Path, *folders: store.CellFolder, seeds: int, seeds_on: str = "all", name: str = "sweep"
) -> results.SweepResult:
    """A sweep's result that lists these cells and chose none."""
    made = results.SweepResult(
        name=name, digest=configuration.digest([digest(folder) for folder in folders]),
        config={"name": name, "seeds": seeds, "seeds_on": seeds_on}, protocol="paper",
        statistic="best", in_words="", num_cells=len(folders), num_runs=0, num_failed=0,
        num_diverged=0, num_collapsed=0, choices=[], cells=[digest(folder) for folder in folders],
    )  # fmt: skip
    store.write_result(root / "sweeps" / f"{name}-{made.digest[:12]}.json", made)
    return made


def digest(folder: store.CellFolder) -> str:
    """A cell's."""
    return str(json.loads(folder.config.read_text())["digest"])


def change(folder: store.CellFolder, seed: int, **values: object) -> None:
    """Rewrite parts of a seed's result; of what is a mapping, what is given."""
    path = folder.seed(seed).result
    result = json.loads(path.read_text())
    for key, value in values.items():
        result[key] = result[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(result))


def held_out(*values: float | None) -> dict[int, Scores]:
    """Accuracies of the seeds 0, 1, …, the same on the rows that select and on those that are shown;
    None for one that diverged.
    """
    return {
        seed: None
        if value is None
        else {split: {"accuracy": value} for split in ("held-out", "validation")}
        for seed, value in enumerate(values)
    }


def one_metric(*values: float | None, split: str = "validation") -> dict[int, Scores]:
    """Accuracies of the seeds 0, 1, …; None for one that diverged."""
    return {
        seed: None if value is None else {split: {"accuracy": value}}
        for seed, value in enumerate(values)
    }


def two_metrics(first: str, second: str, *pairs: tuple[float, float]) -> dict[int, Scores]:
    """Two metrics on validation of the seeds 0, 1, …"""
    return {
        seed: {"validation": {first: one, second: other}} for seed, (one, other) in enumerate(pairs)
    }


def compared(root: Path) -> list[Group]:
    return comparison.compare(evidence.read(root)[0])


def only(root: Path) -> Comparison:
    (group,) = compared(root)
    return group.comparison


def row(shown: Comparison, label: str) -> Row:
    (found,) = [row for row in shown.rows if row.label == label]
    return found


def entry(shown: Comparison, label: str, column: str) -> Entry:
    names = [column.label for column in shown.columns]
    found = row(shown, label).entries[names.index(column)]
    assert isinstance(found, Entry)
    return found


def _epochs(number: int, by_split: Mapping[str, Mapping[str, float | None]], fell: bool) -> str:
    values = next(iter(by_split.values()))
    lines = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "values": {
                name: None if value is None else value * epoch / number
                for name, value in values.items()
            },
            "collapsed": fell,
            "train_seconds": 1.0,
            "evaluate_seconds": 0.1,
            "examples_per_second": 100.0,
        }
        for epoch in range(1, number + 1)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)
