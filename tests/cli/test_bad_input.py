"""Whatever is typed wrong: exit code 2, one line that says where and what to do, nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Finished

Cli = Callable[..., Finished]


@dataclass(frozen=True)
class Place:
    """What a bad command is about: a good GLUE folder, a good model, an output folder to be made."""

    glue: Path
    bert: Path
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def train(self, *more: str) -> list[str]:
        """A good command for a short training, and more after it."""
        return [
            "train", "--task", "rte", "--data-dir", str(self.glue), "--backbone", str(self.bert),
            "--max-length", "32", "--epochs", "1", "--output", str(self.output), *more,
        ]  # fmt: skip

    def config(self, text: str, name: str = "run.yaml") -> list[str]:
        (self.folder / name).write_text(text)
        return self.train("--config", name)

    def spoilt(self, file: str, text: str) -> list[str]:
        """The command, with another text in a file of the GLUE folder."""
        (self.glue / file).write_text(text)
        return self.train()

    def without(self, file: str) -> list[str]:
        """The command, without a file of the GLUE folder."""
        (self.glue / file).unlink()
        return self.train()

    def own_task(self, *changes: tuple[str, str]) -> list[str]:
        text = (CHECKOUT / "configs/tasks/rte.yaml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.folder / "own.yaml").write_text(text)
        return self.train("--task", "own.yaml")


@pytest.fixture
def place(tiny_glue: Path, tiny_bert: Path, tmp_path: Path) -> Place:
    return Place(tiny_glue, tiny_bert, tmp_path)


def check(done: Finished, complaint: str, output: Path) -> None:
    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert re.match(rf"error: {complaint}", lines[0]), lines[0]
    assert "Traceback" not in done.out
    assert not output.exists() or not any(output.rglob("*")), "something was written"


HEADER = "index\tsentence1\tsentence2\tlabel\n"
ROW = "0\tword1\tword2\tentailment\n"

CASES: dict[str, tuple[Callable[[Place], Sequence[str]], str]] = {
    # tasks
    "unknown task": (
        lambda p: p.train("--task", "rta"), r"--task: unknown task 'rta'; did you mean rte\?",
    ),
    "no task": (lambda p: ["train"], r"--task: no task given; choose from: ax, cola"),
    "a task without training": (
        lambda p: p.train("--task", "ax"),
        r"--task: 'ax' has no training data; train --task mnli; its model answers ax",
    ),
    "no such task file": (
        lambda p: p.train("--task", "none.yaml"), r"none\.yaml: no such file; check",
    ),
    "an inconsistent task file": (
        lambda p: p.own_task(("headline: accuracy", "headline: f1")),
        r"own\.yaml: headline 'f1' is not among the metrics",
    ),
    "a task file with an unknown metric": (
        lambda p: p.own_task(("headline: accuracy", "headline: acuracy")),
        r"own\.yaml:5: 'headline' should be 'accuracy', ",
    ),
    # keys and values
    "unknown key in --set": (
        lambda p: p.train("--set", "training.epoch=1"),
        r"--set training\.epoch: unknown key 'training\.epoch'; did you mean epochs\?",
    ),
    "unknown key in a file": (
        lambda p: p.config("seeds: 1\ntraining:\n  epohcs: 1\n"),
        r"run\.yaml:3: unknown key 'training\.epohcs'; did you mean epochs\?",
    ),
    "unknown top key in a file": (
        lambda p: p.config("seeds: 1\ntrainin:\n  epochs: 1\n"),
        r"run\.yaml:2: unknown key 'trainin'; did you mean training\?",
    ),
    "wrong type in a file": (
        lambda p: p.config("training:\n  batch_size: many\n"),
        r"run\.yaml:2: 'training\.batch_size' should be a valid integer, not 'many'",
    ),
    "wrong type in --set": (
        lambda p: p.train("--set", "training.batch_size=1.5"),
        r"--set training\.batch_size: 'training\.batch_size' should be a valid integer, not 1\.5",
    ),
    "wrong type of an option": (
        lambda p: p.train("--epochs", "three"), r".*--epochs.*adaptertune train --help",
    ),
    "duplicate key": (
        lambda p: p.config("seeds: 1\noffline: true\nseeds: 2\n"),
        r'run\.yaml:3: .*duplicate key "seeds"; keep one of the two keys',
    ),
    "no mapping in the file": (
        lambda p: p.config("- a\n"), r"run\.yaml: the file must hold `key: value`",
    ),
    "a file that is not there": (
        lambda p: p.train("--config", "none.yaml"), r"none\.yaml: no such file; check the path",
    ),
    "--set without value": (
        lambda p: p.train("--set", "training.epochs"),
        r"--set: 'training\.epochs' is not KEY=VALUE",
    ),
    "--set without key": (lambda p: p.train("--set", "=1"), r"--set: '=1' is not KEY=VALUE"),
    "a date in --set": (
        lambda p: p.train("--set", "training.batch_size=2024-01-31"),
        r"--set training\.batch_size: ",
    ),
    "data as one word in --set": (
        lambda p: ["train", "--task", "rte", "--output", str(p.output), "--set", "data=hub"],
        r"--set data: 'data' should be an object, not 'hub'",
    ),
    "unknown method": (
        lambda p: p.train("--method", "adaptr"),
        r"--method: unknown method 'adaptr'; did you mean adapter\?",
    ),
    "unknown method in a file": (
        lambda p: p.config("method:\n  name: adaptr\n"),
        r"run\.yaml:2: unknown method 'adaptr'; did you mean adapter\?",
    ),
    "unknown recipe": (
        lambda p: p.train("--recipe", "papr"),
        r"--recipe: unknown recipe 'papr'; did you mean paper\?",
    ),
    "unknown activation": (
        lambda p: p.train("--activation", "gleu"),
        r"--activation: 'method\.activation' should be 'gelu'",
    ),
    "unknown precision": (
        lambda p: p.train("--precision", "fp16"),
        r"--precision: 'training\.precision' should be 'auto', 'fp32' or 'bf16', not 'fp16'",
    ),
    "size 0": (
        lambda p: p.train("--size", "0"),
        r"--size: 'method\.size' should be greater than or equal to 1, not 0",
    ),
    "rate 0": (
        lambda p: p.train("--lr", "0"), r"--lr: 'training\.learning_rate' should be greater than 0",
    ),
    "a rate that is no number": (
        lambda p: p.train("--lr", "nan"),
        r"--lr: 'training\.learning_rate' should be a finite number",
    ),
    "no epochs": (
        lambda p: p.train("--epochs", "0"), r"--epochs: 'training\.epochs' should be greater",
    ),
    # layers
    "layers out of range": (
        lambda p: p.train("--layers", "1-2"),
        r"--layers: layer 2 is not among 2 layers; choose from 0-1",
    ),
    "LayerNorms of layers out of range": (
        lambda p: p.train("--set", "method.layernorms=1-2"),
        r"method\.layernorms: layer 2 is not among 2 layers; choose from 0-1",
    ),
    "LayerNorms by no word": (
        lambda p: p.train("--set", "method.layernorms=top"),
        r"--set method\.layernorms: .* must be adapted, all, none, or layers like 3-5.*, not 'top'",
    ),
    "LayerNorms of no layers": (
        lambda p: p.train("--set", "method.layernorms=[-1]"),
        r"--set method\.layernorms: .* must be adapted, all, none, or layers like 3-5.*, not \[-1\]",
    ),
    "layers that are none": (
        lambda p: p.train("--layers", "top"),
        r"--layers: 'method\.layers' must look like 3-5 or 0,2,4",
    ),
    "layers backwards": (lambda p: p.train("--layers", "1-0"), r"--layers: .* empty span 1-0"),
    "--top-k without top_layers": (
        lambda p: p.train("--top-k", "1"), r"--top-k: unknown key 'method\.k'",
    ),
    "top_layers without --top-k": (lambda p: p.train("--method", "top_layers"), r".*--top-k"),
    "too many top layers": (
        lambda p: p.train("--method", "top_layers", "--top-k", "3"),
        r"--top-k: there are 2 layers, not 3; choose 1 to 2",
    ),
    "--size without adapters": (
        lambda p: p.train("--method", "full", "--size", "8"), r"--size: unknown key 'method\.size'",
    ),
    # seeds
    "--seeds with --seed": (
        lambda p: p.train("--seeds", "2", "--seed", "1"),
        r"--seeds and --seed exclude each other; give one of them",
    ),
    "--seeds 0": (lambda p: p.train("--seeds", "0"), r"--seeds: 'seeds' must be at least 1, not 0"),
    "--seed -1": (
        lambda p: p.train("--seed", "-1"), r"--seed: 'seeds\.0' should be greater than or equal",
    ),
    # device
    "unknown device": (
        lambda p: p.train("--device", "gpu"), r"--device: 'device' .*cuda.*, not 'gpu'",
    ),
    "no such CUDA device": (
        lambda p: p.train("--device", "cuda:99"),
        r"--device: no device 'cuda:99' \(\d+ CUDA devices here\); use --device auto or cpu",
    ),
    # model
    "more tokens than positions": (
        lambda p: p.train("--max-length", "65"),
        r"--max-length: the backbone has 64 positions, not 65; choose at most 64",
    ),
    "too few tokens": (
        lambda p: p.train("--max-length", "7"), r"--max-length: .* greater than or equal to 8",
    ),
    "no such model folder": (
        lambda p: p.train("--backbone", "./none"),
        r"\./none: no such folder; give a model folder or a hub id",
    ),
    "a folder without model": (
        lambda p: p.train("--backbone", str(p.glue)),
        r".*tiny-glue: no readable config\.json; give a model",
    ),
    # data
    "no such folder": (
        lambda p: p.train("--data-dir", "none"),
        r"\S*/none/RTE: no such folder; give --data-dir a folder that",
    ),
    "no such file": (
        lambda p: p.without("RTE/train.tsv"),
        r".*RTE/train\.tsv: no such file; split 'train' of 'rte' needs it",
    ),
    "unknown column": (
        lambda p: p.spoilt("RTE/train.tsv", HEADER.replace("sentence1", "sent1") + ROW),
        r".*RTE/train\.tsv:1: no column 'sentence1'; did you mean sent",
    ),
    "unknown label": (
        lambda p: p.spoilt("RTE/train.tsv", HEADER + ROW + ROW.replace("entailment", "neutral")),
        r".*RTE/train\.tsv:3: unknown label 'neutral'; expected entailment, not_entailment",
    ),
    "a ragged row": (
        lambda p: p.spoilt("RTE/train.tsv", f"{HEADER}{ROW}1\tword1\n"),
        r".*RTE/train\.tsv:3: 2 columns where the first line has 4; mend or remove the row",
    ),
    "an empty row": (
        lambda p: p.spoilt("RTE/train.tsv", f"{HEADER}\n{ROW}"),
        r".*RTE/train\.tsv:2: an empty line",
    ),
    "an empty text": (
        lambda p: p.spoilt("RTE/train.tsv", f"{HEADER}0\tword1\t\tentailment\n"),
        r".*RTE/train\.tsv:2: the text in column 3 is empty; mend or remove the row",
    ),
    "an empty file": (
        lambda p: p.spoilt("RTE/train.tsv", ""), r".*train\.tsv: the file holds no rows",
    ),
    "a bad row among those for validation": (
        lambda p: p.spoilt("RTE/dev.tsv", f"{HEADER}{ROW}1\tword1\n"),
        r".*RTE/dev\.tsv:3: 2 columns where the first line has 4; mend or remove the row",
    ),
    "no file for validation": (
        lambda p: p.without("RTE/dev.tsv"),
        r".*RTE/dev\.tsv: no such file",
    ),
    "fewer rows than a batch has": (
        lambda p: p.train("--batch-size", "99", "--set", "training.drop_last=true"),
        r"16 training examples do not fill one batch of 99; choose a smaller --batch-size",
    ),
    # commands
    "unknown command": (lambda p: ["trian"], r"No such command 'trian'\. Did you mean 'train'\?"),
    "unknown option": (
        lambda p: p.train("--epoch", "1"), r"No such option: --epoch .*--epochs.*--help\)",
    ),
    "no such run": (
        lambda p: ["show", "none"], r"runs: no run 'none'; adaptertune runs lists them",
    ),
    "no such schema": (
        lambda p: ["schema", "none"], r"no schema 'none'; choose from: cell, seed, sweep",
    ),
    # counting
    "sizes that are none": (
        lambda p: ["params", "--size", "a"], r"--size: 'a' is not a list of sizes",
    ),
    "a shape that is none": (
        lambda p: ["params", "--shape", "12"], r"--shape: '12' is not a shape; give",
    ),
    "layers beyond the last": (
        lambda p: ["params", "--layers", "12"],
        r"--layers: layer 12 is not among 12 layers; choose from 0-11",
    ),
    "shares that are none": (
        lambda p: ["params", "--between", "8,1"],
        r"--between: '8,1' is not LOW,HIGH in per cent; e\.g\.",
    ),
    "two ways to say which": (
        lambda p: ["params", "--shape", "2,8", "--backbone", "bert-tiny"],
        r"--shape and --backbone exclude each other; give one of them",
    ),
    "values given twice": (
        lambda p: ["sweep", "--tasks", "rte", "--sizes", "8", "--grid", "method.size=9", "--dry-run"],
        r"--grid method\.size: gives the values of --sizes again",
    ),
    "values of --epochs in an ablation too": (
        lambda p: ["ablate", "init", "--epochs", "5", "--grid", "training.epochs=3,20", "--dry-run"],
        r"--grid training\.epochs: gives the values of --epochs again",
    ),
    "a --grid twice": (
        lambda p: ["sweep", "--tasks", "rte", "--grid", "method.size=8", "--grid", "method.size=64"],
        r"--grid method\.size: is given twice; give all values in one option",
    ),
    "a --set twice": (
        lambda p: p.train("--set", "training.warmup=0", "--set", "training.warmup=0.1"),
        r"--set training\.warmup: is given twice; give it once",
    ),
    "a settings file that is not called YAML": (
        lambda p: p.config("seeds: 1\n", "run.conf"),
        r"run\.conf: is no YAML file by its name; call it something\.yaml",
    ),
    "a setting of another method": (
        lambda p: p.train("--method", "full", "--size", "8"),
        r"--size: unknown key 'method\.size'; choose from: name, pooler",
    ),
    "a folder for a file": (
        lambda p: p.train("--config", str(p.folder)), r".*: cannot be read \(Is a directory\)",
    ),
    "no data, told before a backbone is looked for": (
        lambda p: p.train("--data-dir", "nowhere", "--backbone", "no/model"),
        r".*nowhere/RTE: no such folder; give --data-dir",
    ),
    "texts where a run should be": (
        lambda p: ["predict", "a long text " * 30, "b"], r"runs: no run 'a long text",
    ),
    "nobody's home": (
        lambda p: p.train("--data-dir", "~nobody-of-that-name/x"),
        r"--data-dir: no home folder for '~nobody-of-that-name/x'; write it out",
    ),
    "nobody's home as a backbone": (
        lambda p: p.train("--backbone", "~nobody-of-that-name/x"), r"--backbone: no home folder for",
    ),
    "a name that is too long for a backbone": (
        lambda p: ["params", "--backbone", "a" * 300], r".*a{100}",
    ),
    "an option and a --set of the same": (
        lambda p: p.train("--set", "training.epochs=8"),
        r"--epochs and --set training\.epochs exclude each other; give one of them",
    ),
    "--data-dir and the sample": (
        lambda p: p.train("--set", "data.source=sample"),
        r"--data-dir and --set data\.source exclude each other; give one of them",
    ),
    "--seed and a --set of seeds": (
        lambda p: p.train("--seed", "7", "--set", "seeds=2"),
        r"--seed and --set seeds exclude each other; give one of them",
    ),
    "rows in no file": (lambda p: ["task", "new", "."], r"\.: is no file; name the file with the rows"),
    "no such store": (
        lambda p: ["runs", "--output", "nowhere"], r"nowhere: no such folder; .*--output",
    ),
    "a command within a command": (
        lambda p: ["bundle", "new", "--to", "x"],
        r"Missing argument .*\(adaptertune bundle new --help\)",
    ),
    "top layers of which no number is given": (
        lambda p: ["params", "--method", "top_layers"], r".*--top-k",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(cli: Cli, place: Place, name: str) -> None:
    arguments, complaint = CASES[name]
    check(cli(*arguments(place)), complaint, place.output)


def test_the_command_that_is_made_bad_here_is_good(cli: Cli, place: Place) -> None:
    done = cli(*place.train("--layers", "0-1", "--seed", "0", "--dry-run"))
    assert (done.code, done.err) == (0, "")
    assert not place.output.exists()


def test_an_output_that_can_not_be_written(cli: Cli, place: Place) -> None:
    """Below a file, where not even the superuser can make a folder."""
    (place.folder / "file").write_text("")
    done = cli(*place.train("--output", str(place.folder / "file")))
    check(
        done,
        r".*/file/rte/.*: cannot be written \(Not a directory\); choose another --output",
        place.output,
    )
    assert (place.folder / "file").read_text() == ""


def test_no_network_and_nothing_in_the_cache(cli: Cli, place: Place) -> None:
    """The tests' cache is empty (conftest.py), and the network is off."""
    shared = ["train", "--task", "rte", "--max-length", "32", "--output", str(place.output)]
    check(
        cli(*shared, "--data-dir", place.glue),
        r"--backbone google-bert/bert-base-uncased: is not in the local cache, and the network is "
        r"off; check the name and the network, or use --backbone minilm, or give a folder",
        place.output,
    )
    check(
        cli(*shared, "--backbone", place.bert),
        r"dataset nyu-mll/glue: is not in the local cache, and the network is off; "
        r"check the network, or give --data-dir FOLDER; train --offline has a sample",
        place.output,
    )
