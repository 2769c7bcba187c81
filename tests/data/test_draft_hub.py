"""A task drafted from a dataset of the hub: a local one, in a process that knows no other."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaptertune import tasks
from tests.conftest import CHECKOUT, Finished
from tests.hub_server import HubServer

Cli = Callable[..., Finished]
NAMES = ["world", "sports", "business"]


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as started:
        yield started


@pytest.fixture
def run(server: HubServer, tmp_path: Path) -> Cli:
    """A command in a process that knows only that server."""

    def start(*arguments: object) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "adaptertune", *map(str, arguments)],
            env=server.env(tmp_path / "hf")
            | {"PYTHONPATH": str(CHECKOUT), "ADAPTERTUNE_CACHE": str(tmp_path / "cache")},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    return start


def parquet(numbers: Sequence[int], names: Sequence[str] | None = NAMES) -> bytes:
    """Rows with these labels, and what ``datasets`` writes down of the classes."""
    table = pa.table(
        {"text": [f"word{n % 9} word3 word{n % 7}" for n in range(len(numbers))], "label": numbers}
    )
    if names is not None:
        features = {
            "text": {"dtype": "string", "_type": "Value"},
            "label": {"names": list(names), "_type": "ClassLabel"},
        }
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def news() -> dict[str, bytes]:
    """Two shards of training rows, 30 each, and a test split; no validation."""
    return {
        "README.md": b"# News",
        "data/train-00000-of-00002.parquet": parquet([n % 3 for n in range(30)]),
        "data/train-00001-of-00002.parquet": parquet([n % 3 for n in range(30)]),
        "data/test-00000-of-00001.parquet": parquet([n % 3 for n in range(12)]),
        "data/unlabelled-00000-of-00001.parquet": parquet([-1] * 5),
        "news.py": b"raise SystemExit('run')",
    }


def test_from_a_dataset_to_a_trained_model(
    run: Cli, server: HubServer, tiny_bert: Path, tmp_path: Path
) -> None:
    commit = server.add_repo("dataset", "some/news", news())
    made = run("task", "new", "hub:some/news", "--validation", "test", "--test", "unlabelled")
    assert made.code == 0, made.err
    assert f"the task keeps to commit {commit[:7]} of some/news" in made.out
    task = tasks.load(tmp_path / "news.yaml")
    assert task.labels == tuple(NAMES), "in the order of their numbers, not of the alphabet"
    assert task.hub is not None
    assert task.hub.revision == commit
    assert task.hub.label_values == ("0", "1", "2")
    assert task.hub.splits == {
        "train": "data/train-*.parquet",
        "validation": "data/test-00000-of-00001.parquet",
        "test": "data/unlabelled-00000-of-00001.parquet",
    }
    fetched = {r.split("?")[0].rpartition("/")[2] for r in server.requests if r.startswith("GET")}
    assert "news.py" not in fetched
    assert "unlabelled-00000-of-00001.parquet" not in fetched
    server.add_repo("dataset", "some/news", {"README.md": b"all gone"})  # the task keeps to its own
    checked = run("task", "check", "news.yaml", "--json")
    report = json.loads(checked.out)
    assert report["errors"] == 0, checked.out
    assert {split["name"]: split["num_rows"] for split in report["splits"]} == {
        "train": 60, "validation": 12, "test": 5,
    }  # fmt: skip
    assert report["splits"][0]["labels"] == dict.fromkeys(NAMES, 20)
    trained = run(
        "train", "--task", "news.yaml", "--backbone", tiny_bert, "--seeds", "1", "--epochs", "1",
        "--size", "4", "--max-length", "24", "--json", "--quiet",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["data"]["num_train"] == 60


def test_some_of_a_splits_files_are_not_taken_for_all(
    run: Cli, server: HubServer, tmp_path: Path
) -> None:
    """As they lie in the cache after a download of one file, without the network."""
    server.add_repo("dataset", "some/news", news())
    assert run("task", "new", "hub:some/news", "--validation", "test").code == 0
    (blob,) = (tmp_path / "hf").rglob("train-00001-of-*.parquet")
    blob.unlink()
    for listing in (tmp_path / "hf").glob("hub/*/trees/*.json"):  # else the client itself knows
        listing.unlink()
    checked = run("task", "check", "news.yaml", "--offline")
    assert checked.code != 0
    told = (
        "of 2 files of train-*.parquet the cache has 1; run the command once while the hub can be"
    )
    assert told in " ".join(checked.out.split())


def test_layouts(run: Cli, server: HubServer, tmp_path: Path) -> None:
    """Folders called after splits, subsets, other formats, labels as texts and scores."""
    lines = [{"sentence": f"word{n} and more", "score": n / 4} for n in range(9)]
    jsonl = "".join(json.dumps(line) + "\n" for line in lines).encode()
    csv = b"first,second,label\n" + b"one text,other text,yes\nthis text,that text,no\n" * 4
    server.add_repo(
        "dataset",
        "some/sets",
        {
            "rated/train.jsonl": jsonl,
            "rated/dev.jsonl": jsonl,
            "pairs/train/0000.csv": csv,
            "pairs/train/0001.csv": csv,
            "pairs/validation/0000.csv": csv,
            "odd/train-00000-of-00002.csv": csv,
            "odd/train-00001-of-00002.csv": csv,
            "odd/train-hard-00000-of-00001.csv": csv,
            "odd/val.csv": csv,
        },
    )
    made = run("task", "new", "hub:some/sets", "--subset", "rated", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["file"] == "rated.yaml"
    rated = tasks.load(tmp_path / "rated.yaml")
    assert (rated.range, rated.headline) == ((0.0, 2.0), "pearson")
    assert rated.hub is not None
    assert rated.hub.splits == {"train": "rated/train.jsonl", "validation": "rated/dev.jsonl"}
    made = run("task", "new", "hub:some/sets@main", "--subset", "pairs", "--name", "mine")
    assert made.code == 0, made.err
    mine = tasks.load(tmp_path / "mine.yaml")
    assert (mine.labels, mine.is_pair) == (("no", "yes"), True)
    assert mine.hub is not None
    assert mine.hub.label_values is None
    assert mine.hub.splits == {
        "train": "pairs/train/*.csv",
        "validation": "pairs/validation/0000.csv",
    }
    assert json.loads(run("task", "check", "mine.yaml", "--json").out)["errors"] == 0
    made = run("task", "new", "hub:some/sets", "--subset", "odd")
    assert made.code == 0, made.err
    odd = tasks.load(tmp_path / "odd.yaml")
    assert odd.hub is not None
    assert odd.hub.splits == {"train": "odd/train-0000*.csv", "validation": "odd/val.csv"}


ROWS = b"text,label\nsome text,a\nother text,b\n"
REFUSED: dict[str, tuple[dict[str, bytes], list[Any], str]] = {
    "no validation": (
        news(), [], "dataset a/b: no split is called validation; give --validation, of test, train, ",
    ),
    "no such split": (news(), ["--validation", "tset"], "no split 'tset'; did you mean test"),
    "nothing that trains": (
        {"full.csv": ROWS}, [], "no split is called train; give --train, of full",
    ),
    "no labels": (
        news(), ["--validation", "unlabelled"],
        "'-1' is none of the 3 classes of column 'label' (rows without a label have -1)",
    ),
    "several subsets": (
        {"x/train.csv": ROWS, "y/train.csv": ROWS}, [],
        "rows lie in several folders; give --subset, of x, y",
    ),
    "no such subset": ({"x/train.csv": ROWS}, ["--subset", "z"], "no folder 'z'"),
    "no rows": ({"README.md": b"", "train.txt": b"a"}, [], "no files of rows (.csv, .jsonl,"),
    "names that no pattern tells apart": (
        dict.fromkeys(
            ["train-0-of-2.csv", "train-1-of-2.csv", "train-3.csv", "dev.csv", "train-.csv"], ROWS
        ), [], "dataset a/b, train: train-*.csv fits other files too",
    ),
    "a broken file": (
        {"train.parquet": b"PAR1 no", "dev.parquet": b"PAR1 no"}, [], "train.parquet: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_asked(
    run: Cli, server: HubServer, tmp_path: Path, name: str
) -> None:
    files, options, complaint = REFUSED[name]
    server.add_repo("dataset", "a/b", files)
    done = run("task", "new", "hub:a/b", *options)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert complaint in line
    assert not list(tmp_path.glob("*.yaml"))


def test_no_such_dataset_and_no_hub(run: Cli, server: HubServer, tmp_path: Path) -> None:
    for source in ("hub:no/thing", "hub:", "hub:../x"):
        done = run("task", "new", source)
        assert done.code == 2
        assert len(done.err.splitlines()) == 1
        assert "cannot be had from the hub" in done.err
    server.stop()
    done = run("task", "new", "hub:some/news")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    done = run("task", "new", "rows.csv", "--subset", "x")
    assert "--subset: is for a dataset of the hub" in done.err
