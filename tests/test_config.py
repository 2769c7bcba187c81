"""Layered settings: who wins, where each value came from, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from adaptertune import catalogue, config, paths, tasks
from adaptertune.cli.options import collect
from adaptertune.config import Resolved, canonical_json, digest, parse_layers, resolve
from adaptertune.errors import ConfigError
from adaptertune.runs import grid
from adaptertune.yamlfile import parse, read_yaml

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return to_file


def resolved(file: Path | None = None, **options: Any) -> Resolved:
    """``resolved(task="rte", training__epochs=3)``: each value as if typed as ``--key``."""
    line = {key.replace("__", "."): value for key, value in options.items()}
    return resolve({key: (value, f"--{key}") for key, value in line.items()}, file)


# ---- every shipped file ----

LOADERS: dict[str, Callable[[Path], BaseModel]] = {
    "tasks": lambda path: tasks.load(path.stem),
    "recipes": lambda path: config.load_recipe(path.stem),
    "sample.yaml": lambda path: config.load_sample_settings(),
    "sweeps": lambda path: grid.read(path.stem).config,
    "ablations": lambda path: grid.read(path.stem, "ablations").config,
    "backbones.yaml": lambda path: next(iter(catalogue.known_backbones().values())),
}


@pytest.mark.parametrize(
    "path", sorted(paths.CONFIGS.rglob("*.y*ml")), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_every_shipped_yaml_loads(path: Path) -> None:
    kind = path.relative_to(paths.CONFIGS).parts[0]
    assert kind in LOADERS, f"nothing here loads configs/{kind}: add how to LOADERS"
    loaded = LOADERS[kind](path)
    if "name" in type(loaded).model_fields:
        assert getattr(loaded, "name") == path.stem  # noqa: B009 (a model of any kind)


@pytest.mark.parametrize("method", ["adapter", "full", "top_layers", "layernorm", "bitfit"])
def test_every_recipe_and_suggestion_gives_a_configuration(method: str) -> None:
    """They are checked only where they are used: so use all of them."""
    suggesting = [
        name for name, known in catalogue.known_backbones().items() if known.suggests.training
    ]
    pairs = [(recipe, catalogue.DEFAULT) for recipe in paths.names("recipes")]
    for recipe, backbone in [*pairs, *(("paper", name) for name in suggesting)]:
        extra: dict[str, Any] = {"method__k": 1} if method == "top_layers" else {}
        found = resolved(
            task="rte", recipe=recipe, backbone=backbone, method__name=method, **extra
        ).config
        assert (found.recipe, found.backbone, found.method.name) == (recipe, backbone, method)


# ---- precedence ----

# Each layer over the one before, and what it says of the epochs.
RECIPE = """
name: mine
training: {epochs: 11, batch_size: 32, max_length: 128, warmup: 0.1, weight_decay: 0.0,
  epsilon: 1e-6, clip_norm: 1.0, bias_correction: true, trunk_dropout: false, drop_last: false,
  keep_epoch: best}
learning_rate: {adapter: 1e-3, full: 1e-5}
method: {adapter: {size: 16, init_std: 1e-2, activation: relu}}
"""
TASK = """
name: mine
title: Mine
labels: [a, b]
metrics: [accuracy]
headline: accuracy
evaluation: [validation]
files:
  columns: {first: 0, label: 1}
  splits: {train: {file: t.tsv}, validation: {file: v.tsv}}
"""


def test_command_line_over_file_over_task_over_backbone_over_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "plain.yaml").write_text(TASK)
    (tmp_path / "picky.yaml").write_text(f"{TASK}training: {{epochs: 13}}\n")
    (tmp_path / "run.yaml").write_text("seeds: 2\ntraining:\n  epochs: 14\n")
    base: dict[str, Any] = {"recipe": str(tmp_path / "recipe.yaml"), "backbone": "bert-tiny"}
    plain = base | {"task": str(tmp_path / "plain.yaml")}
    picky = base | {"task": str(tmp_path / "picky.yaml")}
    file = tmp_path / "run.yaml"
    steps: list[tuple[int, str, Resolved]] = [
        (11, "recipe mine", resolved(**plain)),
        (6, "suggested by backbone minilm", resolved(**plain | {"backbone": "minilm"})),
        (13, "task mine", resolved(**picky | {"backbone": "minilm"})),
        (14, f"{file}:3", resolved(file, **picky | {"backbone": "minilm"})),
        (15, "--training__epochs", resolved(file, **picky, training__epochs=15)),
    ]
    for epochs, origin, found in steps:
        assert found.config.training.epochs == epochs
        assert found.origins["training.epochs"] == origin.replace("__", ".")
    last = steps[-1][-1]
    assert last.config.seeds == (0, 1)
    assert last.origins["seeds"] == f"{file}:1"
    assert last.origins["method.size"] == "recipe mine"
    assert last.origins["task"] == "--task"


def test_settings_that_are_given_as_a_whole_are_the_users(tmp_path: Path) -> None:
    found = resolved(task="rte", training={"epochs": 7}, method={"size": 4})
    for key, value in (("training.epochs", 7), ("method.size", 4)):
        block, _, name = key.partition(".")
        assert getattr(getattr(found.config, block), name) == value
        assert found.origins[key] == f"--{block}"
    assert found.origins["training.batch_size"] == "recipe paper"
    with pytest.raises(ConfigError, match=r"^--training: 'training\.epochs'"):
        resolved(task="rte", training={"epochs": 0})


def test_defaults_are_the_papers() -> None:
    found = resolved(task="rte")
    c = found.config
    assert c.recipe == "paper"
    assert c.backbone == "google-bert/bert-base-uncased"
    assert c.method == config.Adapter(size=64, layers=None, init_std=1e-2, activation="gelu")
    assert c.seeds == (0, 1, 2, 3, 4)  # "re-run 5 times with different random seeds"
    assert c.data == config.Data(source="hub")
    assert c.training.model_dump() == {
        "learning_rate": 3e-4, "epochs": 20, "batch_size": 32, "max_length": 128, "warmup": 0.1,
        "weight_decay": 0.01, "epsilon": 1e-6, "clip_norm": 1.0, "bias_correction": True,
        "trunk_dropout": False, "drop_last": False, "keep_epoch": "best", "precision": "auto",
    }  # fmt: skip
    assert {key: found.origins[key] for key in ("recipe", "backbone", "seeds", "data.source")} == {
        "recipe": "default", "backbone": "default", "seeds": "default", "data.source": "default",
    }  # fmt: skip
    for large in ("mnli", "qqp", "qnli", "sst2"):  # of the paper's {3, 20}
        assert resolved(task=large).config.training.epochs == 3


def test_official_code_recipe() -> None:
    found = resolved(task="mrpc", recipe="official-code").config
    assert found.method == config.Adapter(size=64, init_std=1e-3, activation="gelu_tanh")
    t = found.training
    assert (t.learning_rate, t.epochs, t.batch_size, t.max_length) == (3e-4, 5, 32, 128)
    assert (t.bias_correction, t.drop_last, t.keep_epoch) == (False, True, "last")
    assert (t.weight_decay, t.epsilon, t.clip_norm, t.warmup) == (0.01, 1e-6, 1.0, 0.1)


def test_each_method_gets_its_own_rate() -> None:
    rates = {"adapter": 3e-4, "full": 3e-5, "layernorm": 1e-3, "bitfit": 1e-3}
    for name, rate in rates.items():
        found = resolved(task="rte", method__name=name)
        assert found.config.training.learning_rate == rate
        assert found.origins["training.learning_rate"] == "recipe paper"
    suggested = resolved(task="rte", backbone="minilm", method__name="full")
    assert suggested.config.training.learning_rate == 1e-4
    assert suggested.origins["training.learning_rate"] == "suggested by backbone minilm"


def test_every_value_has_an_origin_unless_it_is_the_models_own_default() -> None:
    found = resolved(task="rte")
    without = {"method.layers", "data.folder", "training.precision", "device", "offline", "output",
               "init_from", "trunk_cache", "stack", "compile", "cuda_graphs", "protocol",
               "threads"}  # fmt: skip
    dumped = found.config.model_dump()
    leaves = {
        f"{key}.{inner}" if isinstance(value, dict) else key
        for key, value in dumped.items()
        for inner in (value if isinstance(value, dict) else (None,))
    }
    variants = {"layernorms", "places", "reads", "combines", "scale", "norm", "depth", "pooler"}
    without |= {f"method.{key}" for key in variants}
    assert set(found.origins) == leaves - without


# ---- the method: one of several, each with its own keys ----


def test_a_key_of_another_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--method\.size: unknown key 'method\.size'"):
        resolved(task="rte", method__name="full", method__size=8)
    with pytest.raises(ConfigError, match=r"--method\.k: unknown key 'method\.k'"):
        resolved(task="rte", method__k=2)
    with pytest.raises(ConfigError, match=r"'method\.k' is missing|--top-k"):
        resolved(task="rte", method__name="top_layers")


def test_a_files_method_gives_way_to_another_on_the_command_line(write: Write) -> None:
    file = write("task: rte\nmethod:\n  name: adapter\n  size: 8\n")
    assert resolved(file, method__name="full").config.method == config.Full()
    kept = resolved(file, method__name="adapter").config.method
    assert isinstance(kept, config.Adapter)
    assert kept.size == 8


def test_a_file_with_keys_of_two_methods_is_refused_with_its_line(write: Write) -> None:
    file = write("task: rte\nmethod:\n  name: full\n  size: 8\n")
    with pytest.raises(ConfigError, match=r"run\.yaml:4: unknown key 'method\.size'"):
        resolved(file)


def test_parse_method() -> None:
    given = {"name": "adapter", "size": 8, "init_std": 1e-2, "activation": "gelu"}
    assert config.parse_method(given) == config.Adapter(size=8, init_std=1e-2, activation="gelu")
    assert config.parse_method({"name": "top_layers", "k": 3}) == config.TopLayers(k=3)
    with pytest.raises(
        ConfigError, match=r"'method\.name' is not 'adaptr'; did you mean adapter\?"
    ):
        config.parse_method({"name": "adaptr"})


# ---- layers and seeds ----


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("3-5", (3, 4, 5)),
        ("0,2,4-5", (0, 2, 4, 5)),
        (" 4 , 1 - 2 ", (1, 2, 4)),
        ("7", (7,)),
        (7, (7,)),
        ("3-3,3", (3,)),
        ("all", None),
        (None, None),
        ([0, 2], (0, 2)),
        ([2, 0, 2], (0, 2)),  # else one choice of layers would have several digests
    ],
)
def test_layers(write: Write, text: Any, layers: tuple[int, ...] | None) -> None:
    found = resolved(task="rte", method__layers=text).config.method
    assert isinstance(found, config.Adapter)
    assert found.layers == layers
    given = config.parse_method(
        {"name": "adapter", "size": 8, "init_std": 1e-2, "activation": "gelu", "layers": text}
    )
    assert isinstance(given, config.Adapter)
    assert given.layers == layers
    from_file = resolved(
        write(f"task: rte\nmethod: {{layers: {json.dumps(text)}}}\n")
    ).config.method
    assert isinstance(from_file, config.Adapter)
    assert from_file.layers == layers


@pytest.mark.parametrize(
    ("text", "reason"),
    [("5-3", "empty span 5-3"), ("a", "must look like"), ("", "must look like"), ("1,,2", "must look"),
     ("-1", "must look like"), ("1-99999", "has no layer 99999"), ("1.5", "must look like")],
)  # fmt: skip
def test_layers_that_mean_nothing(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_layers(text)
    with pytest.raises(ConfigError, match=rf"--method\.layers: 'method\.layers' .*{reason}"):
        resolved(task="rte", method__layers=text)


@pytest.mark.parametrize("value", [1.5, True, [-1], [0.5], {"a": 1}, ["x"]])
def test_layers_of_a_wrong_type(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"--method\.layers: 'method\.layers"):
        resolved(task="rte", method__layers=value)


def test_seeds() -> None:
    assert resolved(task="rte", seeds=3).config.seeds == (0, 1, 2)
    assert resolved(task="rte", seeds=[7, 0]).config.seeds == (7, 0)
    assert resolved(task="rte", seeds=[2**32 - 1]).config.seeds == (2**32 - 1,)
    for wrong, reason in (
        (0, "at least 1"), (-3, "at least 1"), ([], "empty"), ([-1], "greater"),
        ([2**32], "less than 4294967296"), ([1, 1], "must differ"), ("two", "valid array"),
        (True, "valid array"), (1.5, "valid array"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"'seeds.*{reason}"):
            resolved(task="rte", seeds=wrong)


def test_seed_and_seeds_of_the_command_line() -> None:
    assert collect({"task": "rte"}, seeds=2).config.seeds == (0, 1)
    assert collect({"task": "rte"}, seed=0).config.seeds == (0,)
    with pytest.raises(ConfigError, match="--seeds and --seed exclude each other"):
        collect({"task": "rte"}, seeds=2, seed=0)


# ---- where the rows come from ----


def test_offline_means_the_embedded_backbone_and_the_sample(tmp_path: Path) -> None:
    found = resolved(task="rte", offline=True)
    assert found.config.backbone == "minilm"
    assert found.config.data == config.Data(source="sample")
    assert found.origins["backbone"] == found.origins["data.source"] == "--offline"
    assert found.origins["training.learning_rate"] == "suggested by backbone minilm"
    assert found.origins["training.epochs"] == "the sample"
    other = collect({"task": "rte", "backbone": "bert-tiny"}, offline=True, data_dir=tmp_path)
    assert other.config.offline
    assert other.config.backbone == "bert-tiny"
    assert other.config.data == config.Data(source="folder", folder=tmp_path)
    assert other.origins["data.folder"] == "--data-dir"


def test_the_sample_asks_for_epochs_of_its_own(tmp_path: Path) -> None:
    """Over the task's and the backbone's, and under what a user says."""
    asked = config.load_sample_settings().training.epochs
    assert asked is not None
    for task in ("rte", "mnli"):
        found = resolved(task=task, offline=True)
        assert found.config.training.epochs == asked
        assert found.origins["training.epochs"] == "the sample"
    assert resolved(task="mnli", offline=True, training__epochs=1).config.training.epochs == 1
    assert resolved(task="rte", data__source="sample").config.training.epochs == asked
    real = collect({"task": "mnli"}, offline=True, data_dir=tmp_path)
    assert real.config.training.epochs == 3
    assert real.origins["training.epochs"] == "task mnli"


def test_a_file_may_ask_for_offline(write: Write) -> None:
    found = resolved(write("task: rte\noffline: true\n")).config
    assert (found.backbone, found.data.source, found.offline) == ("minilm", "sample", True)


def test_data_dir_wins_over_a_files_source(write: Write, tmp_path: Path) -> None:
    file = write("task: rte\ndata: {source: hub}\n")
    found = collect({}, config=file, data_dir=tmp_path).config
    assert found.data == config.Data(source="folder", folder=tmp_path)


def test_a_folder_alone_says_that_the_rows_are_there(write: Write) -> None:
    """… and is recorded so that it can be found from any other folder."""
    expected = config.Data(source="folder", folder=Path.cwd() / "x")
    assert resolved(write("task: rte\ndata: {folder: x}\n")).config.data == expected
    assert resolved(write("task: rte\noffline: true\ndata: {folder: x}\n")).config.data == expected
    assert resolved(task="rte", data__folder="x").config.data == expected


def test_source_and_folder_must_agree(write: Write) -> None:
    for text in ("source: folder", "source: hub, folder: x", "source: sample, folder: x"):
        with pytest.raises(ConfigError, match=r"run\.yaml:2: 'data\.folder' goes with source"):
            resolved(write(f"task: rte\ndata: {{{text}}}\n"))


def test_an_own_task_without_hub_has_its_rows_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TASK)
    for offline in (False, True):
        found = resolved(task=str(tmp_path / "mine.yaml"), offline=offline).config
        assert found.data == config.Data(source="folder", folder=tmp_path)


def test_an_own_task_is_recorded_so_that_it_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    assert resolved(task="own/mine.yaml").config.task == str(tmp_path / "own" / "mine.yaml")
    assert resolved(task="rte").config.task == "rte"


# ---- what is wrong is named with its place ----

FILE: dict[str, tuple[str, str]] = {
    "unknown key": (
        "task: rte\ntrainin: {epochs: 3}\n",
        r"run\.yaml:2: unknown key 'trainin'; did you mean training\?",
    ),
    "unknown inner key": (
        "task: rte\ntraining:\n  epohcs: 3\n",
        r"run\.yaml:3: unknown key 'training\.epohcs'; did you mean epochs\?",
    ),
    "unknown method key": (
        "task: rte\nmethod:\n  sise: 3\n",
        r"run\.yaml:3: unknown key 'method\.sise'; did you mean size\?",
    ),
    "wrong type": (
        "task: rte\ntraining:\n  epochs: three\n",
        r"run\.yaml:3: 'training\.epochs' should be a valid integer, not 'three'",
    ),
    "out of range": (
        "task: rte\ntraining:\n  max_length: 513\n",
        r"run\.yaml:3: 'training\.max_length' should be less than or equal to 512, not 513",
    ),
    "no mapping": (
        "task: rte\ntraining: 5\n",
        r"run\.yaml:2: 'training' should be an object, not 5",
    ),
    "method as text": ("task: rte\nmethod: full\n", r"run\.yaml:2: 'method' should be an object"),
    "data as text": (
        "task: rte\ndata: hub\n",
        r"run\.yaml:2: 'data' should be an object, not 'hub'",
    ),
    "data empty": ("task: rte\ndata:\n", r"run\.yaml:2: 'data' should be an object, not None"),
    "unknown source": (
        "task: rte\ndata: {source: web}\n",
        r"run\.yaml:2: 'data\.source' should be 'hub', 'folder' or 'sample', not 'web'",
    ),
    "unknown method": (
        "task: rte\nmethod:\n  name: adaptr\n",
        r"run\.yaml:3: unknown method 'adaptr'; did you mean adapter\?",
    ),
    "unknown task": (
        "seeds: 1\ntask: rta\n",
        r"run\.yaml:2: unknown task 'rta'; did you mean rte\?",
    ),
    "task as number": ("seeds: 1\ntask: 5\n", r"run\.yaml:2: 'task' must be text, not 5"),
    "task without training": ("seeds: 1\ntask: ax\n", r"run\.yaml:2: 'ax' has no training data"),
    "unknown recipe": (
        "task: rte\nrecipe: papr\n",
        r"run\.yaml:2: unknown recipe 'papr'; did you mean paper\?",
    ),
    "seeds": ("task: rte\nseeds: 0\n", r"run\.yaml:2: 'seeds' must be at least 1, not 0"),
    "many seeds": (
        f"task: rte\nseeds: {10**20}\n",
        r"run\.yaml:2: 'seeds' is how many, and 10+ are",
    ),
    "a seed": ("task: rte\nseeds: [1, two]\n", r"run\.yaml:2: 'seeds\.1' .* integer, not 'two'"),
    "backbone": ("task: rte\nbackbone: 5\n", r"run\.yaml:2: 'backbone' must be text, not 5"),
    "offline": ("task: rte\noffline: no\n", r"run\.yaml:2: 'offline' .* boolean, not 'no'"),
}


@pytest.mark.parametrize("name", FILE)
def test_a_files_mistake_is_named_with_its_line(write: Write, name: str) -> None:
    text, complaint = FILE[name]
    with pytest.raises(ConfigError, match=complaint):
        resolved(write(text))


SET: dict[str, tuple[str, str]] = {
    "unknown": ("sedes=1", r"--set sedes: unknown key 'sedes'; did you mean seeds\?"),
    "unknown inside": (
        "training.epoch=1",
        r"--set training\.epoch: unknown key .*; did you mean epochs",
    ),
    "unknown parent": ("trainin.epochs=1", r"--set trainin\.epochs: unknown key .*mean training\?"),
    "wrong type": ("training.epochs=1.5", r"--set training\.epochs: .* valid integer, not 1\.5"),
    "date": ("training.epochs=2024-01-31", r"--set training\.epochs: .*2024"),
    "date in a list": ("seeds=[1, 2024-01-31]", r"--set seeds: .*2024"),
    "ring": ("seeds=&x [*x]", r"--set seeds: "),
    "infinite": ("training.learning_rate=.inf", r"--set training\.learning_rate: .* finite"),
    "no mapping": ("training=5", r"--set training: 'training' should be an object, not 5"),
    "data": ("data=5", r"--set data: 'data' should be an object, not 5"),
    "below a number": ("training.epochs.x=1", r"--set training\.epochs\.x: "),
    "method": ("method.name=adaptr", r"--set method\.name: unknown method 'adaptr'; did you mean"),
    "recipe": ("recipe=papr", r"--set recipe: unknown recipe 'papr'; did you mean paper\?"),
    "seeds": ("seeds=0", r"--set seeds: 'seeds' must be at least 1, not 0"),
    "no value": ("training.epochs", r"--set: 'training\.epochs' is not KEY=VALUE"),
    "no key": ("=3", r"--set: '=3' is not KEY=VALUE"),
}


@pytest.mark.parametrize("name", SET)
def test_a_mistake_in_set_is_named_with_its_key(name: str) -> None:
    setting, complaint = SET[name]
    with pytest.raises(ConfigError, match=f"^{complaint}"):
        collect({"task": "rte"}, settings=[setting])


def test_set_takes_yaml_and_nothing_that_an_option_gives() -> None:
    with pytest.raises(
        ConfigError, match=r"--epochs and --set training\.epochs exclude each other"
    ):
        collect({"task": "rte", "epochs": 3}, settings=["training.epochs=4"])
    for given in ("training={epochs: 4}", "training=4"):  # as a whole, too
        with pytest.raises(ConfigError, match=r"training.*--epochs exclude each other"):
            collect({"task": "rte", "epochs": 3}, settings=[given])
    settings = ["training.learning_rate=1e-4", "seeds=[3, 4]", "training.drop_last=true",
                "method={name: full}"]  # fmt: skip
    found = collect({"task": "rte", "epochs": 3}, settings=settings)
    c = found.config
    assert (c.training.learning_rate, c.training.drop_last, c.seeds) == (1e-4, True, (3, 4))
    assert c.method == config.Full()
    assert c.training.epochs == 3
    assert found.origins["training.epochs"] == "--epochs"
    assert found.origins["seeds"] == "--set seeds"


def test_no_task() -> None:
    with pytest.raises(ConfigError, match="--task: no task given; choose from: ax, cola, mnli"):
        resolved()


# ---- canonical JSON and digests ----


def test_canonical_json_is_one_text_for_one_value() -> None:
    value = {"b": [1, 1e-4, True, None], "a": {"ü": "x", "1": 0.1}}
    text = '{"a":{"1":0.1,"ü":"x"},"b":[1,0.0001,true,null]}'
    assert canonical_json(value) == text
    assert canonical_json(dict(reversed(value.items()))) == text
    assert digest(value) == hashlib.sha256(text.encode("utf-8")).hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_a_configuration_s_digest_is_stable() -> None:
    """Run folders are found again by their digests: these may change with a new format only."""
    method = config.Adapter(size=64, init_std=1e-2, activation="gelu")
    text = '{"activation":"gelu","init_std":0.01,"layers":null,"name":"adapter","size":64}'
    identity = config.method_identity(method)
    assert canonical_json(identity) == text
    assert digest(identity) == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_does_not_depend_on_the_process_or_on_how_a_value_was_given(
    write: Write,
) -> None:
    file = write("training: {epochs: 3}\nseeds: 2\ntask: rte\n")
    expected = digest(resolved(file).config.model_dump(mode="json"))
    same = resolved(task="rte", seeds=[0, 1], training__epochs=3).config
    assert digest(same.model_dump(mode="json")) == expected
    code = (
        "from adaptertune.config import resolve, digest;"
        "line = {'seeds': (2, ''), 'training.epochs': (3, ''), 'task': ('rte', '')};"
        "print(digest(resolve(line).config.model_dump(mode='json')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1], env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == expected


def test_a_written_configuration_reads_back_equal(write: Write) -> None:
    c = resolved(task="rte", method__layers="1-2", seeds=[3], data__source="sample").config
    dumped = json.loads(c.model_dump_json(exclude_none=True))
    document = read_yaml(write(json.dumps(dumped)))
    assert parse(config.RunConfig, document.data, document.where) == c
    assert resolve({}, document.path).config == c


@pytest.mark.parametrize("value", [5, 0.5, True, {"a": 1}, [5], []])
def test_runs_to_start_from_of_a_wrong_type(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"'init_from.*' (is|should)"):
        resolved(task="rte", init_from=value)


def test_the_store_may_be_below_ones_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolved(task="rte", output="~/runs").config.output == tmp_path / "runs"
    assert resolved(task="rte", output="runs").config.output == Path("runs")


def test_a_folder_as_backbone_is_found_from_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "bert").mkdir(parents=True)
    (tmp_path / "minilm").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "models" / "bert")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "models")
    for given in (
        "bert",
        "./bert/",
        "../models/bert",
        "~/models/bert",
        str(tmp_path / "models/bert"),
    ):
        found = resolved(task="rte", backbone=given)
        assert found.config.backbone == str(tmp_path / "models" / "bert")
        assert found.origins["backbone"] == "--backbone"
    assert resolved(task="rte", backbone="../link").config.backbone == str(tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    assert resolved(task="rte", backbone="minilm").config.backbone == "minilm"
    assert resolved(task="rte", backbone="a/b").config.backbone == "a/b"
