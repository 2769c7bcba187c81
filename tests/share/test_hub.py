"""Runs to the hub and back over a real client, and repositories that mean harm."""

from __future__ import annotations

import json
import pickle
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from adaptertune import config as configuration
from adaptertune.errors import AdapterTuneError, HubError, StoreError
from adaptertune.runs import load
from adaptertune.share import copy, hub
from adaptertune.share.copy import portable_name
from tests.conftest import CHECKOUT, Finished, train_tiny
from tests.hub_server import HubServer

REPO = "tester/rte-adapter"


@pytest.fixture(scope="module")
def cell(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tiny_bert, tmp_path_factory.mktemp("runs"), "rte")


@pytest.fixture(scope="module")
def packed(cell: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good repository."""
    folder = tmp_path_factory.mktemp("packed")
    hub.pack(load.find(str(cell), cell.parent), folder, REPO, license="mit")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as started:
        yield started


@pytest.fixture
def run(server: HubServer, tmp_path: Path) -> Callable[..., Finished]:
    """A command in a process that knows only that server."""

    def start(*arguments: object, token: str | None = "hf_test") -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "adaptertune", *map(str, arguments)],
            env=server.env(tmp_path / "hf", token=token) | {"PYTHONPATH": str(CHECKOUT)},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    return start


def test_to_the_hub_and_back(
    run: Callable[..., Finished], server: HubServer, cell: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    done = run("push", cell, REPO, "--license", "mit", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["repository"] == REPO
    best = load.find(str(cell), cell.parent).result.seed
    files = server.repo("model", REPO).files
    assert set(files) - {".gitattributes"} == {
        "README.md", "run/config.json", "run/result.json",
        f"run/seed-{best}/result.json", f"run/seed-{best}/checkpoint.safetensors",
    }  # fmt: skip
    for name, data in files.items():
        for told in (str(cell.parent), str(tiny_bert.parent), f'"host": "{platform.node()}"'):
            assert told.encode() not in data, (name, told)

    done = run("pull", REPO, "--output", "pulled", "--json", token=None)
    assert done.code == 0, done.err
    folder = tmp_path / json.loads(done.out)["folder"]
    assert folder.parent == tmp_path / "pulled" / "rte"
    own = load_file(cell / f"seed-{best}" / "checkpoint.safetensors")
    got = load_file(folder / f"seed-{best}" / "checkpoint.safetensors")
    assert own.keys() == got.keys()
    assert all((own[name] == got[name]).all() for name in own)
    ask = ("word1 word2", "word3", "--backbone", tiny_bert, "--json")
    mine, theirs = run("predict", cell, *ask), run("predict", folder, *ask)
    assert json.loads(mine.out)["predictions"] == json.loads(theirs.out)["predictions"]
    assert run("show", folder).code == 0
    again = run("pull", REPO, "--output", "pulled")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "is there already; choose another --output" in again.err

    other = 1 - best  # pushed there too, it takes the place of the first
    assert run("push", f"{cell}/seed-{other}", REPO, "--license", "mit").code == 0
    assert f"run/seed-{other}/result.json" in server.repo("model", REPO).files
    assert f"run/seed-{best}/result.json" not in server.repo("model", REPO).files
    done = run("pull", REPO, "--output", "other", token=None)
    assert done.code == 0, done.err
    named = re.search(r"Next +adaptertune predict (\S+) TEXT TEXT --backbone FOLDER\n", done.out)
    assert named
    theirs = run("predict", named[1], *ask)
    mine = run("predict", f"{cell}/seed-{other}", *ask)
    assert json.loads(mine.out)["predictions"] == json.loads(theirs.out)["predictions"]
    shown = re.search(r"Checkpoint +(\S+)", run("show", named[1]).out)
    assert shown
    assert (tmp_path / shown[1]).is_file()
    assert "the sample, which is not GLUE" in run("submit", "--output", "other").err
    copied = load.find(str(tmp_path / named[1]), tmp_path).result.data.description
    assert copied == load.find(str(folder), tmp_path).result.data.description


def test_the_card(packed: dict[str, bytes], cell: Path) -> None:
    text = packed["README.md"].decode()
    _, front, body = text.split("---\n", 2)
    facts = YAML(typ="safe", pure=True).load(front)
    assert (facts["license"], facts["library_name"]) == ("mit", "adaptertune")
    assert "base_model" not in facts, "a folder of this machine is no model of the hub"
    summary = json.loads((cell / "result.json").read_text())
    spread = summary["scores"]["validation"]["accuracy"]
    assert (
        f"| validation | accuracy | {100 * spread['best']:.2f} | {100 * spread['mean']:.2f} |"
        in body
    )
    assert f"{summary['ledger']['trained']:,} trained without the head" in body
    assert "Generated sample text, not GLUE" in body
    assert summary["backbone"]["sha256"] in body
    digest = summary["digest"][:12]
    use = f"adaptertune pull {REPO}\nadaptertune predict {digest} 'a text' 'another text'"
    assert f"{use} --backbone FOLDER\n" in body


def test_a_folder_is_no_base_model_of_the_hub(cell: Path) -> None:
    run = load.find(str(cell), cell.parent)
    summary = run.cell.finished_result()
    for commit in (None, "0" * 40):
        changes = {"name": "my/bert@main", "commit": commit}
        backbone = run.result.backbone.model_copy(update=changes)
        assert backbone.at_commit == ("my/bert@main" if commit is None else f"my/bert@{commit}")
        assert backbone.model == ("my/bert@main" if commit is None else "my/bert")
        named = replace(run, result=run.result.model_copy(update={"backbone": backbone}))
        text = hub.card(named, summary, REPO, license="mit")
        assert ("base_model: my/bert\n" in text) == (commit is not None)
        assert ("its base model was a folder" in text) == (commit is None)
        assert ("--backbone FOLDER" in text) == (commit is None)


def test_the_card_names_the_method_that_trained(cell: Path) -> None:
    run = load.find(str(cell), cell.parent)
    summary = run.cell.finished_result()
    card = hub.card(run, summary, REPO, license="mit")
    assert "Bottleneck adapters (Houlsby et al., ICML 2019), trained with adaptertune" in card
    for name, given in (("full", {}), ("layernorm", {}), ("lora", {"rank": 8, "alpha": 8.0})):
        config = run.result.config | {"method": {"name": name, **given}}
        other = replace(run, result=run.result.model_copy(update={"config": config}))
        card = hub.card(other, summary, REPO, license="mit")
        assert f"{hub.TRAINED[name]}, trained with adaptertune" in card
        assert "Bottleneck" not in card
        assert "- adapters\n" not in card
        assert ("parameter-efficient" in card) == (name != "full")
    frozen = run.result.config | {"method": {"name": "full", "pooler": "frozen"}}
    other = replace(run, result=run.result.model_copy(update={"config": frozen}))
    card = hub.card(other, summary, REPO, license="mit")
    assert "The whole base model but for its pooler, trained with adaptertune" in card


def test_a_card_has_words_for_every_method() -> None:
    names = [kind.model_fields["name"].default for kind in configuration.METHODS]
    assert sorted(hub.TRAINED) == sorted(names)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/home/me/bert", "bert"), ("../work/bert", "bert"), ("~/bert/", "bert"), ("a/b/c", "c"),
        ("minilm", "minilm"), ("owner/name@main", "owner/name@main"),
        ("owner/name@refs/pr/1", "owner/name@refs/pr/1"),
    ],
)  # fmt: skip
def test_of_a_backbones_folder_only_its_name_is_told(name: str, told: str) -> None:
    assert portable_name(name) == told


def test_text_in_a_card_is_text() -> None:
    assert hub._plain("<b>x</b> | [a](b)\n# y") == r"&lt;b&gt;x&lt;/b&gt; \| \[a\](b) # y"


def spoilt(packed: dict[str, bytes], path: str, old: str, new: str) -> dict[str, bytes]:
    (name,) = (name for name in packed if re.fullmatch(path, name))
    text = packed[name].decode()
    assert old in text
    return packed | {name: text.replace(old, new).encode()}


def with_checkpoint(packed: dict[str, bytes], data: bytes) -> dict[str, bytes]:
    (name,) = (name for name in packed if name.endswith("checkpoint.safetensors"))
    return packed | {name: data}


class Harm:
    """What would write a file if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("harmed", "w")


Files = dict[str, bytes]
NAMED = '"backbone": {\n    "name": "'
HOSTILE: dict[str, tuple[Callable[[Files], Files], str]] = {
    "nothing": (lambda files: {"README.md": b"hello"}, "is no run of adaptertune"),
    "a pickle as a checkpoint": (
        lambda files: with_checkpoint(files, pickle.dumps(Harm())), "damaged, or not a checkpoint",
    ),
    "a huge header": (
        lambda files: with_checkpoint(files, b"\xff" * 7 + b"\x7f{}"), "damaged, or not a checkpoint",
    ),
    "a negative offset": (
        lambda files: with_checkpoint(
            files, (73).to_bytes(8, "little")
            + b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}'.ljust(73)),
        "damaged, or not a checkpoint",
    ),
    "another's checkpoint": (
        lambda files: spoilt(files, r"run/seed-\d+/result.json", '"sha256": "', '"sha256": "0'),
        "not the checkpoint of this run",
    ),
    "a task that leads elsewhere": (
        lambda files: spoilt(files, "run/config.json", '"name": "rte"', '"name": "../../../harmed"'),
        "run/config.json: 'task.name' must be a name of letters",
    ),
    "a digest that leads elsewhere": (
        lambda files: spoilt(files, "run/config.json", '"digest": "', '"digest": "../../'),
        "'digest' must be 64 hexadecimal digits, not '../../",
    ),
    "a seed of another number": (
        lambda files: spoilt(files, r"run/seed-\d+/result.json", '"seed": ', '"seed": 7'),
        "the result is of seed 7",
    ),
    "deep JSON": (lambda files: files | {"run/config.json": b"[" * 100_000}, "damaged"),
    "a summary that is none": (
        lambda files: files | {"run/result.json": b"{}"}, "run/result.json: key 'config' is missing",
    ),
    "a summary of another shape": (
        lambda files: spoilt(files, "run/result.json", '"backbone": {', '"backbone": [], "b": {'),
        "run/result.json: damaged result",
    ),
    "no configuration": (
        lambda files: spoilt(files, "run/config.json", '"config": {', '"c": {'), "'config' is missing",
    ),
    "runs to start from that are none": (
        lambda files: spoilt(files, "run/result.json", '"init_from": null', '"init_from": 5'),
        "run/result.json: 'config.init_from' should be a valid array, not 5",
    ),
    "a count that is none": (
        lambda files: spoilt(files, "run/result.json", '"num_tasks": 9', '"num_tasks": "9"'),
        "run/result.json: 'ledger.num_tasks' should be a valid integer, not '9'",
    ),
    "a number that is none": (
        lambda files: spoilt(files, "run/config.json", '"semantics": 2', '"semantics": 1e999'),
        "run/config.json: damaged (ValueError)",
    ),
    "half a character": (
        lambda files: spoilt(files, "run/config.json", '"semantics": 2', r'"semantics": "\ud800"'),
        "run/config.json: damaged (UnicodeEncodeError)",
    ),
    "no checkpoint": (
        lambda files: {n: data for n, data in files.items() if not n.endswith("tensors")},
        "checkpoint.safetensors",
    ),
    "no summary": (
        lambda files: {n: data for n, data in files.items() if n != "run/result.json"},
        "lacks run/result.json",
    ),
    "a large summary": (
        lambda files: files | {"run/result.json": files["run/result.json"] + b" " * 3_000_000},
        "run/result.json has 3,0",
    ),
    "a large configuration": (
        lambda files: files | {"run/config.json": b'{"a": "' + b"x" * 3_000_000 + b'"}'},
        "run/config.json has 3,000,009 bytes, more than the 2,000,000 that one may have",
    ),
    "a base model whose name is too long for a folder": (
        lambda files: spoilt(files, r"run/seed-\d+/result.json", NAMED, NAMED + "x" * 500),
        "its task or base model makes a folder's name of 5",
    ),
    "two runs": (
        lambda files: files | {"run/seed-9/result.json": b"{}"}, "is no run of adaptertune",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_repository_that_means_harm(
    name: str, packed: Files, server: HubServer, run: Callable[..., Finished], tmp_path: Path
) -> None:
    make, complaint = HOSTILE[name]
    extra = {"evil.py": b"open('harmed', 'w')", "pytorch_model.bin": pickle.dumps(Harm())}
    server.add_repo("model", REPO, make(packed) | extra)
    done = run("pull", REPO, "--output", "out/store")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert complaint in done.err
    assert done.err.startswith(f"error: model {REPO}: ")
    assert (
        "; pull what was pushed" in done.err or "; ask its owner to push the run again" in done.err
    )
    for ours in (str(tmp_path), "delete", "train", "command"):
        assert ours not in done.err.removeprefix(f"error: model {REPO}: "), "of another's run"
    assert not (tmp_path / "out").exists(), "something was written"
    assert not list(tmp_path.rglob("harmed"))
    assert not [path for path in server.requests if "evil" in path or "pytorch_model" in path]


# A file, a place in it, what stands there instead, and what is said of it.
SEED, CELL = "run/seed-0/result.json", "run/result.json"
FOREIGN: list[tuple[str, str, Any, str]] = [
    (CELL, "headline", "x", "'x' is not the task's headline metric"),
    (CELL, "headline", "f1", "'f1' is not the task's headline metric"),
    (CELL, "selecting_split", "x", "no scores on 'x', which selected"),
    (CELL, "scores", {}, "no scores on 'validation', which selected"),
    (CELL, "scores.validation", {}, "the scores on 'validation' are not the task's metrics"),
    (CELL, "task", "sst2", "a result of 'sst2', not of 'rte'"),
    (CELL, "published.0.metric", "x", "'published.0.metric' should be 'accuracy', 'f1', "),
    (CELL, "protocol", "\x1b[31mred", "a control character in"),
    (CELL, "origins", {"\x7f": "x"}, "a control character in"),
    (CELL, "ledger.parts.0.name", "\x9b1m", "a control character in"),
    (CELL, "published.0.source", "a\rb", "a control character in"),
    (CELL, "backbone.name", "a\x1bb", "a control character in"),
    (CELL, "backbone.name", "a" * 5000, "a text of 5,000 characters (aaa"),
    (SEED, "selecting_split", "x", "no scores on 'x', which selected"),
    (SEED, "scores", {}, "no scores on 'validation', which selected"),
    (SEED, "scores.validation.values", {}, "the scores on 'validation' are not the task's metrics"),
    (SEED, "scores.validation.values.f1", 1.0, "are not the task's metrics"),
    (SEED, "task", "sst2", "a result of 'sst2', not of 'rte'"),
    (SEED, "backbone.name", "a\x1bb", "a control character in"),
    ("run/config.json", "task.title", "\x1b]0;pwn\x07", "a control character in"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "place", "value", "complaint"), FOREIGN)
def test_facts_that_another_command_would_stumble_over(
    name: str, place: str, value: Any, complaint: str, packed: Files, tmp_path: Path
) -> None:
    files = {re.sub(r"seed-\d+", "seed-0", path): data for path, data in packed.items()}
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    own = json.loads(files[SEED]) | {"seed": 0}
    names = ["run/config.json", CELL, SEED, "run/seed-0/checkpoint.safetensors"]
    (tmp_path / SEED).write_text(json.dumps(own))
    run, _ = hub._checked(tmp_path, names)
    assert run.score is not None
    content: Any = json.loads((tmp_path / name).read_text())
    if "published" in place:
        content["published"] = [dict(FIGURE)]
    (tmp_path / name).write_text(json.dumps(content))
    hub._checked(tmp_path, names)
    *way, last = (int(part) if part.isdigit() else part for part in place.split("."))
    inner = content
    for part in way:
        inner = inner[part]
    inner[last] = value
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(AdapterTuneError) as told:
        hub._checked(tmp_path, names)
    assert complaint in str(told.value)
    assert str(told.value).startswith(f"{tmp_path / name}: ")


FIGURE = {
    "source": "Someone 2019", "model": "BERT-large", "split": "test", "metric": "accuracy",
    "row": "full", "value": 70.0, "comparable": False, "why_not": "there BERT-large",
}  # fmt: skip


def test_what_is_too_large_is_not_fetched(
    packed: Files, server: HubServer, run: Callable[..., Finished], tmp_path: Path
) -> None:
    server.add_repo("model", REPO, packed | {"run/config.json": b" " * 3_000_000})
    assert run("pull", REPO, "--output", "out").code == 2
    assert not [path for path in server.requests if "/resolve/" in path]
    (tmp_path / "hf").mkdir(exist_ok=True)
    server.add_repo("model", REPO, packed)
    assert run("pull", REPO, "--output", "out").code == 0
    (config,) = (tmp_path / "hf").rglob("run/config.json")
    config.write_bytes(config.read_bytes() + b" " * 3_000_000)
    done = run("pull", REPO, "--output", "again", "--offline")
    assert done.code == 2
    assert "run/config.json has 3," in done.err


def test_of_a_run_that_could_not_be_written_nothing_stays(
    cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it would be "there already" when it is pulled again."""
    found = load.find(str(cell / "seed-0"), cell.parent.parent)

    def full(path: Path, value: object) -> None:
        raise StoreError("cannot be written", where=path)

    monkeypatch.setattr(copy, "write_json", full)
    with pytest.raises(StoreError, match="cannot be written"):
        copy.copy_run(found, tmp_path / "rte" / "copied")
    assert not (tmp_path / "rte" / "copied").exists()
    monkeypatch.undo()
    assert copy.copy_run(found, tmp_path / "rte" / "copied").score == found.score


@pytest.mark.parametrize(
    ("name", "kind"), [("checkpoint.safetensors", "SHA-256"), ("config.json", "SHA-1")]
)
def test_a_damaged_download_is_found(
    packed: Files,
    server: HubServer,
    run: Callable[..., Finished],
    tmp_path: Path,
    name: str,
    kind: str,
) -> None:
    """A small file's too, by the name that git has for it."""
    (tmp_path / "hf").mkdir(exist_ok=True)
    server.add_repo("model", REPO, packed)
    assert run("pull", REPO, "--output", "out").code == 0
    (damaged,) = (tmp_path / "hf").rglob(name)
    blob = damaged.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    done = run("pull", REPO, "--output", "again", "--offline")
    assert done.code == 2
    assert f"damaged download (its {kind} is wrong); delete {blob}" in done.err
    assert not (tmp_path / "again").exists()
    done = run("pull", "tester/none", "--offline")
    assert done.err.endswith("and leave out --offline and HF_HUB_OFFLINE\n")


def test_only_a_runs_own_files_are_fetched(
    packed: Files, server: HubServer, run: Callable[..., Finished]
) -> None:
    more = {f"run/seed-{n}/x/result.json": b"{}" for n in range(5)}
    more |= {
        "run/seed-x/result.json": b"{}",
        "run/seed-7/checkpoint.safetensors": b"x",
        "run/a": b"x",
    }
    server.add_repo("model", REPO, packed | more)
    assert run("pull", REPO).code == 0
    assert not [path for path in server.requests for name in more if path.endswith(name)]


def test_paths_that_lead_out_of_the_repository(
    packed: Files, server: HubServer, run: Callable[..., Finished], tmp_path: Path
) -> None:
    for way in (
        "run/seed-0/../../../../../../harmed/result.json",
        "run/seed-/../../../harmed/result.json",
    ):
        server.add_repo("model", REPO, packed | {way: b"{}"})
        done = run("pull", REPO, "--output", "out")
        assert not list(tmp_path.rglob("harmed"))
        assert done.code == 0 or done.err.startswith("error: "), done.err
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_hub_that_refuses(run: Callable[..., Finished], server: HubServer, cell: Path) -> None:
    done = run("push", cell, REPO, token=None)
    assert done.code == 2
    assert done.err.startswith(f"error: {REPO}: refused (")
    assert "hf auth login" in done.err
    server.stop()
    done = run("pull", REPO)
    assert done.code == 2
    assert f"model {REPO}: cannot be had from the hub" in done.err
    with pytest.raises(HubError, match=r"'\.\./x' is no repository; give OWNER/NAME"):
        hub.pull("../x", Path("runs"), revision=None, offline=True)
