"""From a sweep's YAML and options to its cells, and a line with a place for whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adaptertune import paths
from adaptertune.errors import ConfigError
from adaptertune.runs import grid, sweep
from adaptertune.runs.plan import method_label

YAML = """\
name: mine
tasks: [rte, stsb]
grids:
  - method.size: [8, 64]
    training.learning_rate: [3e-5, 3e-4]
  - method.name: full
    training.learning_rate: 2e-5
settings:
  offline: true
  training.epochs: 7
seeds: 3
"""
Base = dict[str, tuple[Any, str]]
BASE: Base = {"data.source": ("sample", "--set data.source")}
Values = dict[str, tuple[list[Any], str]]


@pytest.fixture
def place(tiny_bert: Path, tmp_path: Path) -> Base:
    """What a plan needs beyond a configuration."""
    return {
        "backbone": (str(tiny_bert), "--backbone"),
        "output": (str(tmp_path), "--output"),
        "training.max_length": (24, "--max-length"),
    }


def read(folder: Path, text: str = YAML) -> grid.SweepSource:
    path = folder / "mine.yaml"
    path.write_text(text)
    return grid.read(str(path))


def options(source: grid.SweepSource | None = None, **changes: Any) -> grid.SweepSource:
    given: dict[str, Any] = {
        "tasks": None, "grid": {}, "seeds": None, "seeds_on": None, "protocol": None,
    }  # fmt: skip
    return grid.with_options(source, **(given | changes))


def test_a_file_becomes_cells(tmp_path: Path) -> None:
    source = read(tmp_path)
    cells = list(grid.cells(source, BASE))
    assert grid.num_cells(source) == len(cells) == 2 * (2 * 2 + 1)
    found = [
        (c.config.task, c.config.method.name, getattr(c.config.method, "size", None),
         c.config.training.learning_rate)
        for c, _ in cells
    ]  # fmt: skip
    assert found == [
        (task, "adapter", size, rate)
        for task in ("rte", "stsb") for size in (8, 64) for rate in (3e-5, 3e-4)
    ] + [(task, "full", None, 2e-5) for task in ("rte", "stsb")]  # fmt: skip
    assert {(c.config.training.epochs, c.config.seeds) for c, _ in cells} == {(7, (0, 1, 2))}
    assert cells[0][1] == {"method.size": 8, "training.learning_rate": 3e-5}
    origins = cells[0][0].origins
    assert origins["method.size"] == f"{tmp_path / 'mine.yaml'}:4"
    assert origins["training.epochs"] == f"{tmp_path / 'mine.yaml'}:10"
    assert origins["task"] == f"{tmp_path / 'mine.yaml'}:2"


def test_options_alone_make_one_grid_for_each_method() -> None:
    values: Values = {
        "method.name": (["adapter", "full"], "--methods"),
        "method.size": ([4, 8], "--sizes"),
        "training.epochs": ([1], "--epochs"),
    }
    source = options(tasks=["rte"], grid=values, seeds=2)
    found = [(c.config.method.name, chosen) for c, chosen in grid.cells(source, BASE)]
    assert found == [
        ("adapter", {"method.name": "adapter", "method.size": 4, "training.epochs": 1}),
        ("adapter", {"method.name": "adapter", "method.size": 8, "training.epochs": 1}),
        ("full", {"method.name": "full", "training.epochs": 1}),
    ]


def test_options_go_before_the_file(tmp_path: Path) -> None:
    values: Values = {
        "method.size": ([16], "--sizes"),
        "training.learning_rate": ([1e-3], "--lrs"),
    }
    source = options(read(tmp_path), tasks=["mrpc"], grid=values, seeds=1, protocol="held-out")
    found = [
        (c.config.task, c.config.method.name, c.config.training.learning_rate, c.config.protocol)
        for c, _ in grid.cells(source, BASE)
    ]
    assert found == [("mrpc", "adapter", 1e-3, "held-out"), ("mrpc", "full", 1e-3, "held-out")]
    only_full = options(read(tmp_path), grid={"method.name": (["full"], "--methods")})
    assert {c.config.method.name for c, _ in grid.cells(only_full, BASE)} == {"full"}
    together = YAML.replace("method.name: full", "method.name: [full, layernorm]")
    of_two = options(read(tmp_path, together), grid={"method.name": (["full"], "--methods")})
    assert list(grid.cells(of_two, BASE)) == list(grid.cells(only_full, BASE))
    other = options(read(tmp_path), grid={"method.name": (["bitfit"], "--methods")})
    assert {c.config.method.name for c, _ in grid.cells(other, BASE)} == {"bitfit"}


def test_where_methods_are_left_out_a_value_has_its_own_line(tmp_path: Path) -> None:
    """And not that of the grid that stood in its place."""
    full: Values = {"method.name": (["full"], "--methods")}
    found, _ = next(iter(grid.cells(options(read(tmp_path), grid=full), BASE)))
    line = 1 + YAML.splitlines().index("    training.learning_rate: 2e-5")
    assert found.origins["training.learning_rate"] == f"{tmp_path}/mine.yaml:{line}"
    wrong = YAML.replace("training.learning_rate: 2e-5", "training.learning_rate: -1.0")
    with pytest.raises(ConfigError, match=rf"mine\.yaml:{line}: "):
        list(grid.cells(options(read(tmp_path, wrong), grid=full), BASE))
    lacking: Values = {"method.name": (["full", "bitfit"], "--methods")}
    where = options(read(tmp_path), grid=lacking).where
    first = where(("grids", 0, "training.learning_rate"))
    assert (first, where(("grids", 1))) == (
        f"{tmp_path}/mine.yaml:{line}",
        f"{tmp_path}/mine.yaml:3",
    )


def test_only_first_seeds_run_before_the_winner_is_known(place: Base, tmp_path: Path) -> None:
    values: Values = {"method.size": ([4, 8], "--sizes")}
    every = sweep.make(options(tasks=["rte"], grid=values, seeds=3), BASE | place)
    first = sweep.make(
        options(tasks=["rte"], grid=values, seeds=3, seeds_on="winner"), BASE | place
    )
    assert [unit.seeds for unit in sweep.first_units(every)] == [(0,), (1,), (2,)] * 2
    assert [unit.seeds for unit in sweep.first_units(first)] == [(0,)] * 2
    assert [c.plan.digest for c in every.cells] == [c.plan.digest for c in first.cells]
    assert every.result != first.result


def test_equal_cells_are_one(place: Base, tmp_path: Path) -> None:
    values: Values = {
        "method.size": ([4, 4, 8], "--sizes"),
        "training.learning_rate": ([1e-3, 0.001], "--lrs"),
    }
    told: list[tuple[int, int]] = []
    source = options(tasks=["rte", "rte"], grid=values, seeds=2)
    made = sweep.make(source, BASE | place, lambda *done: told.append(done))
    assert [unit.plan.config.method.size for unit in sweep.first_units(made)] == [4, 4, 8, 8]  # type: ignore[union-attr]
    assert told == [(done, grid.num_cells(source)) for done in range(1, 13)]


def test_two_tasks_of_one_name_are_refused(place: Base, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    shipped = (paths.CONFIGS / "tasks" / "rte.yaml").read_text()
    own.write_text(shipped)
    made = sweep.make(options(tasks=["rte", str(own)]), BASE | place)
    assert len(made.cells) == 1, "the same by two names"
    own.write_text(shipped.replace("metrics: [accuracy]", "metrics: [accuracy, f1]"))
    with pytest.raises(ConfigError, match=r"--tasks: 'rte' and '.*own\.yaml' are both named 'rte'"):
        sweep.make(options(tasks=["rte", str(own)]), BASE | place)


BAD_FILES = {
    "an unknown key": (("seeds: 3", "seds: 3"), r"mine\.yaml:11: unknown key 'seds'; did you mean"),
    "an unknown key in a grid": (
        ("method.size", "method.sise"), r"mine\.yaml:4: unknown key 'method\.sise'; did you mean size",
    ),
    "a task in a grid": (
        ("method.size: [8, 64]", "task: [rte]"),
        r"mine\.yaml:4: 'task' can't be part of a grid; it is a setting of the whole sweep",
    ),
    "an output in a grid": (
        ("method.size: [8, 64]", "output: [a, b]"), r"mine\.yaml:4: 'output' can't be part of a grid",
    ),
    "seeds among the settings": (
        ("  training.epochs: 7", "  seeds: 7"),
        r"mine\.yaml:10: 'seeds' belongs to the sweep, not to its cells; use --seeds",
    ),
    "an unknown method": (
        ("method.name: full", "method.name: ful"),
        r"mine\.yaml:6: unknown method 'ful'; did you mean full",
    ),
    "an empty list": (("[8, 64]", "[]"), r"mine\.yaml:4: 'grids\.0\.method\.size' is empty; give"),
    "no tasks": (("[rte, stsb]", "[]"), r"mine\.yaml:2: 'tasks' is empty; give at least one value"),
    "an unknown task": (("[rte, stsb]", "[rta]"), r"mine\.yaml:2: unknown task 'rta'; did you mean rte"),
    "a value out of range": (
        ("[3e-5, 3e-4]", "[3e-5, -1]"),
        r"mine\.yaml:5: 'training\.learning_rate' should be greater than 0, not -1",
    ),
    "a value of another kind": (
        ("[8, 64]", "[8, many]"), r"mine\.yaml:4: 'method\.size' should be a valid integer, not 'many'",
    ),
    "a list too many": (
        ("[8, 64]", "[[8, 64]]"),
        r"mine\.yaml:4: 'method\.size' should be a valid integer, not \[8, 64\]",
    ),
    "a size of full fine-tuning": (
        ("training.learning_rate: 2e-5", "method.size: 8"), r"mine\.yaml:7: unknown key 'method\.size'",
    ),
    "a duplicate key": (("seeds: 3", "name: b"), r"mine\.yaml:11: .*duplicate key"),
    "no seeds": (("seeds: 3", "seeds: 0"), r"mine\.yaml:11: 'seeds' should be greater"),
    "a name with a slash": (("name: mine", "name: a/b"), r"mine\.yaml:1: 'name' must be a name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    (old, new), complaint = BAD_FILES[name]
    assert old in YAML
    with pytest.raises(ConfigError, match=complaint) as caught:
        list(grid.cells(read(tmp_path, YAML.replace(old, new, 1)), BASE))
    assert "\n" not in str(caught.value)


BAD_OPTIONS: dict[str, tuple[dict[str, Any], Base, str]] = {
    "no tasks": ({}, {}, "--tasks: no tasks given; e.g. --tasks rte,mrpc"),
    "an unknown method": (
        {"grid": {"method.name": (["adaptr"], "--methods")}}, {},
        r"--methods: unknown method 'adaptr'; did you mean adapter",
    ),
    "a list as a method": (
        {"grid": {"method.name": ([["adapter"]], "--grid method.name")}}, {},
        r"--grid method\.name: unknown method '\['adapter'\]'",
    ),
    "sizes of full fine-tuning": (
        {"grid": {"method.name": (["full"], "--methods"), "method.size": ([8], "--sizes")}}, {},
        r"--sizes: unknown key 'method\.size' of method full",
    ),
    "a rate that is none": (
        {"grid": {"training.learning_rate": (["abc"], "--lrs")}}, {},
        r"--lrs: 'training\.learning_rate' should be a valid number, not 'abc'",
    ),
    "an unknown key": (
        {"grid": {"training.epohcs": ([1], "--grid training.epohcs")}}, {},
        r"--grid training\.epohcs: unknown key 'training\.epohcs'; did you mean epochs",
    ),
    "an unknown protocol": ({"protocol": "papr"}, {}, r"--protocol: 'protocol' should be 'paper' or"),
    "an unknown choice of seeds": ({"seeds_on": "some"}, {}, r"--seeds-on: 'seeds_on' should be 'all'"),
    "seeds as a setting": (
        {}, {"seeds": (2, "--set seeds")}, r"--set seeds: 'seeds' belongs to the sweep.*use --seeds",
    ),
    "a setting that the grid has": (
        {"grid": {"training.epochs": ([1, 2], "--epochs")}},
        {"training.epochs": (3, "--set training.epochs")},
        r"--set training\.epochs: 'training\.epochs' is in the sweep's grid; give its values there",
    ),
    "all seeds in one pass, but a winner": (
        {"seeds_on": "winner"}, {"stack": ("on", "--stack")},
        r"--stack: seeds that train in one pass can't wait for a winner; use --stack off",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(name: str) -> None:
    changes, base, complaint = BAD_OPTIONS[name]
    tasks = {} if name == "no tasks" else {"tasks": ["rte"]}
    with pytest.raises(ConfigError, match=complaint):
        list(grid.cells(options(**(tasks | changes)), BASE | base))


def test_an_unknown_sweep_names_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"--config: unknown sweep 'papr-64'; did you mean paper-64"
    ):
        grid.read("papr-64")


# Cells and trainings of the shipped sweeps, by the arithmetic of their first comment and source.
SHIPPED = {
    "paper-8-256": (8 * (3 * 3 * 2 + 4), 5 * 8 * (3 * 3 * 2 + 4)),
    "paper-64": (8 * (3 * 2 + 4), 5 * 8 * (3 * 2 + 4)),
    "quick": (2 * 2, 2 * 2 + 2 * 2),
    "embedded": (2 * 2, 3 * 2 * 2),
    "quickstart": (2, 3 * 2),
    "study": (9 * 2 * (9 + 3 + 6 + 3), 9 * 2 * (9 + 3 + 6 + 3) + 9 * 7 * 4),
    "compare": (8 * (3 * 3 + 6 * 3), 8 * (3 * 3 + 6 * 3) + 8 * 9 * 4),
}


def test_all_shipped_sweeps_are_known_here() -> None:
    assert sorted(SHIPPED) == paths.names("sweeps")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sweeps_expand(name: str) -> None:
    source = grid.read(name)
    assert source.config.name == name
    assert source.config.source
    cells = [resolved.config for resolved, _ in grid.cells(source, {})]
    num_cells, num_runs = SHIPPED[name]
    assert len(cells) == len(set(map(str, cells))) == grid.num_cells(source) == num_cells
    if source.config.seeds_on == "all":
        assert num_runs == num_cells * source.config.seeds
    else:
        rows = {(c.task, str(c.method)) for c in cells}
        assert num_runs == num_cells + len(rows) * (source.config.seeds - 1)
    # The paper leaves WNLI out; the study has it.
    assert ("wnli" in {cell.task for cell in cells}) == (name == "study")


def test_the_papers_search_is_its_own() -> None:
    cells = [resolved.config for resolved, _ in grid.cells(grid.read("paper-8-256"), {})]
    adapters = [cell for cell in cells if cell.method.name == "adapter"]
    values = {
        (c.method.size, c.training.learning_rate, c.training.epochs)  # type: ignore[union-attr]
        for c in adapters
    }
    assert values == {(m, r, e) for m in (8, 64, 256) for r in (3e-5, 3e-4, 3e-3) for e in (3, 20)}
    assert {cell.training.batch_size for cell in cells} == {32}
    assert {cell.backbone for cell in cells} == {"google-bert/bert-large-uncased"}
    assert {cell.seeds for cell in cells} == {(0, 1, 2, 3, 4)}


# Each ablation's values, from the paper (section 3.6 and figures 4 and 6).
AXES = {
    "init": ("init_std", [10.0**power for power in range(-7, 1)]),
    "size": ("size", [2**power for power in range(10)]),
}


def test_all_shipped_ablations_are_known_here() -> None:
    assert sorted([*AXES, "lr", "depth", "parts", "variants"]) == paths.names("ablations")


def test_shipped_ablations_of_several_methods() -> None:
    """On BERT-base, in the paper's protocol: what runs, each with the same seeds."""
    found = {}
    for name in ("lr", "depth", "parts", "variants"):
        source = grid.with_layers(grid.read(name, "ablations"), {}, lambda _: 12)
        assert source.config.name == name
        assert source.config.source
        cells = [resolved.config for resolved, _ in grid.cells(source, {})]
        assert len(cells) == len(set(map(str, cells)))
        assert {cell.seeds for cell in cells} == {(0, 1, 2, 3, 4)}
        assert {cell.task for cell in cells} == {"cola", "mnli"}
        found[name] = [cell for cell in cells if cell.task == "cola"]
    rates = [2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3]
    assert [(cell.method.name, cell.training.learning_rate) for cell in found["lr"]] == [
        (name, rate) for name in ("adapter", "full") for rate in rates
    ]
    assert [method_label(cell.method) for cell in found["depth"]] == [
        *(f"adapter-{size}" for size in (1, 4, 16, 64, 256)),
        *(f"top_layers-{k}" for k in range(1, 13)), "layernorm",
    ]  # fmt: skip
    assert [method_label(cell.method) for cell in found["parts"]] == [
        "adapter-64", "adapter-64-layernorms-none", "adapter-64-pooler-trained",
    ]  # fmt: skip
    by_method: dict[str, list[float]] = {}
    for cell in found["variants"]:
        by_method.setdefault(str(cell.method), []).append(cell.training.learning_rate)
    assert len(by_method) == 15
    assert set(map(tuple, by_method.values())) == {(3e-4, 1e-3, 3e-3)}
    assert {cell.stack for cell in found["variants"]} == {"off"}


@pytest.mark.parametrize("name", AXES)
def test_shipped_ablations_expand(name: str) -> None:
    source = grid.read(name, "ablations")
    assert source.config.name == name
    assert source.config.source
    cells = [resolved.config for resolved, _ in grid.cells(source, {})]
    axis, values = AXES[name]
    for task in ("cola", "mnli"):
        found = [getattr(cell.method, axis) for cell in cells if cell.task == task]
        assert found == pytest.approx(values)
    assert len(cells) == 2 * len(values)
    # In nothing else do cells of a task differ, and that is what the recipe says.
    others = [cell.method.model_dump(exclude={axis}) for cell in cells]
    assert all(other == others[0] for other in others)
    assert {cell.seeds for cell in cells} == {(0, 1, 2, 3, 4)}


def test_all_top_layers_are_the_backbones(place: Base, tmp_path: Path) -> None:
    values: Values = {"method.name": (["top_layers"], "--methods"), "method.k": (["all"], "--grid")}
    made = sweep.make(options(tasks=["rte", "stsb"], grid=values, seeds=1), BASE | place)
    assert [(c.plan.task.name, c.plan.config.method.k) for c in made.cells] == [  # type: ignore[union-attr]
        ("rte", 1), ("rte", 2), ("stsb", 1), ("stsb", 2),
    ]  # fmt: skip
    assert made.config.grids[0]["method.k"] == (1, 2)
    base = {key: value for key, value in (BASE | place).items() if key != "backbone"}
    two = values | {"backbone": (["minilm", str(place["backbone"][0])], "--grid")}
    with pytest.raises(ConfigError, match=r"--grid: all layers of several backbones; give each"):
        sweep.make(options(tasks=["rte"], grid=two, seeds=1), base)
    for wrong in (["all", 1], ["every"], [3]):
        bad = values | {"method.k": (wrong, "--grid")}
        with pytest.raises(ConfigError, match=r"'method\.k' should be|2 layers, not 3"):
            sweep.make(options(tasks=["rte"], grid=bad, seeds=1), BASE | place)


def test_methods_of_one_label_are_rows_of_their_own(place: Base, tmp_path: Path) -> None:
    """And their folders keep the names that they had."""
    values: Values = {
        "method.activation": (["gelu", "tanh"], "--grid"),
        "method.size": ([4, 8], "--sizes"),
        "training.learning_rate": ([1e-3, 1e-2], "--lrs"),
    }
    made = sweep.make(options(tasks=["rte"], grid=values, seeds=1), BASE | place)
    assert [(row.label, len(row.cells)) for row in made.methods] == [
        (f"adapter-{size}-activation-{activation}", 2)
        for activation in ("gelu", "tanh")
        for size in (4, 8)
    ]
    assert [row.label for row in made.best_sizes] == [
        "adapter best of 4, 8-activation-gelu", "adapter best of 4, 8-activation-tanh",
    ]  # fmt: skip
    names = {cell.plan.folder.path.name.rpartition("-")[0] for cell in made.cells}
    assert {name.partition("-tiny")[0][:9] for name in names} == {"adapter-4", "adapter-8"}
    assert not any("activation" in name for name in names)
