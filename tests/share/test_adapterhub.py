"""Adapters to and from AdapterHub's own library, and folders that mean harm."""

from __future__ import annotations

import importlib
import json
import math
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

from adaptertune.cli import main
from adaptertune.data.sources import Source, load_splits
from adaptertune.errors import StoreError
from adaptertune.model.inject import adapters_removed
from adaptertune.report import evidence
from adaptertune.report.tables import console, predictions
from adaptertune.runs import load, store
from adaptertune.share import glue
from adaptertune.share.adapterhub import files, incoming, layout, outgoing
from adaptertune.share.adapterhub.layout import CONFIG
from adaptertune.tasks import load as load_task
from tests import kinds
from tests.conftest import CHECKOUT, Finished
from tests.hub_server import HubServer

Cli = Callable[..., Finished]
FLAT: dict[str, Any] = {"layers": 1, "use_pooler": True}
DEEP: dict[str, Any] = {"layers": 2}  # their default


def job(kind: str, task: str = "rte", **keys: Any) -> dict[str, Any]:
    """How their library makes a checkpoint; ``keys`` but for these five are its configuration's."""
    given = {"static": False, "labels": None, "head": DEEP, "safetensors": False, "name": task}
    own = {key: keys.pop(key, value) for key, value in given.items()}
    outputs = load_task(task).num_outputs
    return own | {"kind": kind, "task": task, "config": keys, "num_labels": outputs}


JOBS = {
    "houlsby": job("DoubleSeqBnConfig", reduction_factor=4, labels=["not_entailment", "entailment"]),
    "houlsby, safetensors, flat head": job(
        "DoubleSeqBnConfig", reduction_factor=3.1, head=FLAT, safetensors=True,
        labels=["entailment", "not_entailment"], non_linearity="gelu", init_weights="houlsby",
    ),
    "houlsby, left out, scaled": job(
        "DoubleSeqBnConfig", task="sst2", reduction_factor={"1": 8, "default": 2}, leave_out=[0],
        scaling=0.7, residual_before_ln=False, non_linearity="tanh", dropout=0.3, name="a name",
    ),
    "houlsby, norm before": job(
        "DoubleSeqBnConfig", reduction_factor=4, ln_before=True, non_linearity="gelu_new"
    ),
    "attention alone": job("DoubleSeqBnConfig", reduction_factor=4, output_adapter=False, head=FLAT),
    "pfeiffer": job("SeqBnConfig", task="mnli", reduction_factor=8, safetensors=True),
    "pfeiffer, regression": job("SeqBnConfig", task="stsb", reduction_factor=8),
    "pfeiffer, transformers' head": job("SeqBnConfig", reduction_factor=2, static=True),
    "parallel": job("ParBnConfig", reduction_factor=2, adapter_residual_before_ln=True),
    "parallel, both, norm before": job(
        "ParBnConfig", reduction_factor=4, mh_adapter=True, ln_before=True, scaling=1.5,
        original_ln_before=True, residual_before_ln="post_add", head=FLAT,
    ),
}  # fmt: skip


# ---- Their library ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer() -> Path:
    """The Python that has their library. CI names it; elsewhere it is used if it was made before."""
    named = os.environ.get("ADAPTERTUNE_PEERS")
    if named:
        return Path(named)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHECKOUT / "scripts"))
        found: Path = importlib.import_module("peers").default_environment() / "bin" / "python"
    if not found.exists():
        pytest.skip("AdapterHub's library is not there; make it with: python scripts/peers.py")
    return found


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(5, 50, (6, 12), generator=stream),
        "token_type_ids": (torch.arange(12) > 6).long().repeat(6, 1),
        "attention_mask": (torch.arange(12) < torch.tensor([[12], [9], [4], [12], [7], [11]])).long(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def theirs(
    peer: Path,
    tiny_bert: Path,
    batch: dict[str, torch.Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder of checkpoints that their library trained and saved, by the names of JOBS."""
    folder = tmp_path_factory.mktemp("theirs")
    make = [job | {"folder": str(folder / name)} for name, job in JOBS.items()]
    ask(peer, tiny_bert, batch, folder, make=make)
    return folder


def ask(
    peer: Path,
    bert: Path,
    batch: dict[str, torch.Tensor],
    folder: Path,
    make: list[dict[str, Any]] | None = None,
    load: list[dict[str, Any]] | None = None,
) -> None:
    save_file(batch, folder / "tokens")
    jobs = {"backbone": str(bert), "tokens": str(folder / "tokens")}
    (folder / "jobs").write_text(json.dumps(jobs | {"make": make or [], "load": load or []}))
    script = Path(__file__).with_name("adapterhub_peer.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [peer, script, folder / "jobs"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def ours(
    run: Path, batch: dict[str, torch.Tensor], bert: Path, *, removed: bool = False
) -> npt.NDArray[np.float32]:
    model = load.load(load.find(str(run), run.parent), place=str(bert), offline=True).model
    mask = batch["attention_mask"].bool()
    with torch.no_grad(), adapters_removed(model.backbone, (0, 1) if removed else ()):
        logits = model(batch["input_ids"], batch["token_type_ids"], mask)
    found: npt.NDArray[np.float32] = logits.numpy()
    return found


def logits_of(folder: Path) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = load_file(folder / "logits")["logits"]
    return found


def take(cli: Cli, source: Path, bert: Path, task: str, *more: str) -> Finished:
    return cli(
        "import", source, "--task", task, "--backbone", bert, "--offline", "--max-length", "24",
        "--quiet", "--json", *more,
    )  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_what_they_trained_gives_their_logits(
    name: str, theirs: Path, tiny_bert: Path, batch: dict[str, torch.Tensor], cli: Cli
) -> None:
    task = load_task(JOBS[name]["task"])
    done = take(cli, theirs / name, tiny_bert, task.name)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    expected = logits_of(theirs / name)
    if name == "houlsby":  # whose labels stand in another order
        expected = expected[:, ::-1]
    found = ours(Path(result["folder"]), batch, tiny_bert)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert expected.std(axis=0).min() > 1e-3, "the rows differ"
    without = ours(Path(result["folder"]), batch, tiny_bert, removed=True)
    assert np.abs(without - expected).max() > 0.05, "the adapters matter"
    # What is told of it was measured here, and nothing is told of a training.
    (split,) = load_splits(task, Source("sample"), [task.evaluation[0]])
    (seed,) = Path(result["folder"]).glob("seed-*")
    kept = load_file(seed / "logits.safetensors")[f"logits.{split.name}"]
    assert len(kept) == len(split)
    own = json.loads((seed / "result.json").read_text())
    assert own["imported"]["library"] == "adapters.1.3.0"
    assert set(own["imported"]["sha256"]) >= {"adapter_config.json", "head_config.json"}
    assert (own["num_epochs"], own["kept_epoch"], own["cost"]["train_seconds"]) == (0, None, 0.0)
    if task.headline == "accuracy":
        assert split.labels is not None
        right = float((kept.argmax(axis=1) == split.labels).mean())
        assert result["scores"][split.name]["accuracy"]["best"] == pytest.approx(right)
    assert result["protocol"].startswith("Imported: trained with AdapterHub's library")


# ---- From here ----------------------------------------------------------------------------------

# Methods that their format can hold: ours, and what it becomes in their configuration.
OURS: dict[str, tuple[str, ...]] = {
    "rte": ("method.layernorms=none", "method.pooler=trained"),
    "mnli": ("method.layernorms=none", "method.pooler=trained"),
    "sst2": (
        "method.layernorms=none", "method.places=feedforward", "method.reads=normed",
        "method.activation=gelu_tanh", "method.norm=layer",
    ),
    "stsb": (
        "method.layernorms=none", "method.places=feedforward", "method.reads=input",
        "method.scale=4", "method.activation=relu", "method.layers=1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A cell of each of OURS, and one of the paper's own method, by task."""
    output = tmp_path_factory.mktemp("runs")
    for task, keys in (OURS | {"mrpc": ()}).items():
        # Initial values of usual size: by the default's the adapters would be next to nothing.
        size = 7 if task == "sst2" else 8  # which divides no width
        line = ["train", "--task", task, "--offline", "--backbone", tiny_bert, "--size", size,
                "--init-std", 0.5, "--seeds", 2, "--epochs", 1, "--max-length", 24, "--lr", 1e-2,
                "--precision", "fp32", "--output", output, "--quiet",
                *(word for key in keys for word in ("--set", key))]  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["adaptertune", *map(str, line)])
            with pytest.raises(SystemExit, match="0"):
                main()
    return {path.name: next(path.iterdir()) for path in output.iterdir()}


def test_what_was_trained_here_gives_our_logits_there_and_comes_back(
    peer: Path,
    trained: dict[str, Path],
    tiny_bert: Path,
    batch: dict[str, torch.Tensor],
    cli: Cli,
    tmp_path: Path,
) -> None:
    """Loaded by their library without a key missing or left over; saved by it, and imported again."""
    jobs = []
    for number, task in enumerate(OURS):
        done = cli("export", trained[task], "--to", task, "--offline")
        assert done.code == 0, done.err
        assert "use_safetensors=True" in done.out
        again = {"again": str(tmp_path / "again" / task), "safetensors": number % 2 == 0}
        jobs.append({"folder": str(tmp_path / task)} | again)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    jobs[2]["safetensors"] = False  # a LayerNorm is in it twice, which safetensors refuse to write
    ask(peer, tiny_bert, batch, tmp_path, load=jobs)
    for task in OURS:
        expected = ours(trained[task], batch, tiny_bert)
        found = logits_of(tmp_path / "again" / task)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0, err_msg=task)
        without = ours(trained[task], batch, tiny_bert, removed=True)
        assert np.abs(without - expected).max() > 1e-3, "the adapters matter"
        done = take(cli, tmp_path / "again" / task, tiny_bert, task)
        assert done.code == 0, done.err
        back = ours(Path(json.loads(done.out)["folder"]), batch, tiny_bert)
        np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize("option", ["--data-dir", "--device"])
def test_where_nothing_is_measured_there_is_no_use_for_data_and_device(
    trained: dict[str, Path], cli: Cli, tmp_path: Path, option: str
) -> None:
    done = cli("export", trained["mnli"], "--to", "out", "--offline", option, "cpu")
    assert (done.code, done.out) == (2, "")
    assert f"error: {option}: nothing is left out, so nothing is measured" in done.err
    assert not (tmp_path / "out").exists()


def test_tuned_layernorms_are_refused_or_their_loss_is_measured(
    trained: dict[str, Path],
    tiny_bert: Path,
    batch: dict[str, torch.Tensor],
    cli: Cli,
    tmp_path: Path,
) -> None:
    cell = trained["mrpc"]
    done = cli("export", cell, "--to", "out", "--offline")
    assert (done.code, done.out) == (2, "")
    assert "AdapterHub's format has no place for tuned LayerNorms; --drop-layernorms" in done.err
    assert not (tmp_path / "out").exists()
    done = cli(
        "export", cell, "--to", "out", "--offline", "--drop-layernorms", "--json", "--seed", "1"
    )
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["seed"] == 1
    result = json.loads((cell / "seed-1" / "result.json").read_text())
    assert told["loss"]["with_own"]["validation"] == result["scores"]["validation"]["values"]
    # What is told of the rest is what the exported folder scores when it is taken back.
    done = take(cli, tmp_path / "out", tiny_bert, "mrpc")
    assert done.code == 0, done.err
    scores = json.loads(done.out)["scores"]["validation"]
    assert told["loss"]["without"]["validation"] == {
        name: pytest.approx(spread["best"]) for name, spread in scores.items()
    }
    shown = cli("export", cell, "--to", "shown", "--offline", "--drop-layernorms").out
    assert "Without the tuned LayerNorms, in per cent" in shown
    # A folder that is in use is told of before anything is measured, for which the checkpoint is read.
    damaged = tmp_path / "damaged"
    shutil.copytree(cell, damaged)
    (damaged / "seed-1" / "checkpoint.safetensors").write_bytes(b"damaged")
    options = ("--seed", "1", "--offline", "--drop-layernorms")
    again = cli("export", damaged, "--to", "out", *options)
    assert (again.code, again.err) == (2, "error: out: is not empty; choose another --to\n")
    assert "checkpoint" in cli("export", damaged, "--to", "new", *options).err


def test_offline_asks_no_hub(tiny_bert: Path, tiny_glue: Path, tmp_path: Path) -> None:
    """Even of a run that was trained with the hub at hand, whose base model is missing since."""
    files = {path.name: path.read_bytes() for path in tiny_bert.iterdir() if path.is_file()}
    with HubServer() as server:
        server.add_repo("model", "tester/bert", files)

        def run(cache: str, *arguments: object) -> Finished:
            done = subprocess.run(
                [sys.executable, "-m", "adaptertune", *map(str, arguments)],
                env=server.env(tmp_path / cache) | {"PYTHONPATH": str(CHECKOUT)},
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            return Finished(done.returncode, done.stdout, done.stderr)

        done = run(
            "full", "train", "--task", "rte", "--backbone", "tester/bert", "--data-dir", tiny_glue,
            "--size", 8, "--seeds", 1, "--epochs", 1, "--max-length", 24, "--quiet", "--json",
        )  # fmt: skip
        assert done.code == 0, done.err
        export = ("export", json.loads(done.out)["folder"], "--drop-layernorms", "--to")
        before = len(server.requests)
        done = run("empty", *export, "out", "--offline")
        assert (done.code, done.out) == (2, "")
        assert "is not in the local cache, and the network is off; " in done.err
        assert run("full", *export, "out", "--offline").code == 0
        assert server.requests[before:] == []
        assert run("empty", *export, "online").code == 0, "it is fetched where it may be"


def test_an_imported_run_is_a_run(trained: dict[str, Path], tiny_bert: Path, cli: Cli) -> None:
    assert cli("export", trained["mnli"], "--to", "theirs", "--offline").code == 0
    done = take(cli, Path("theirs"), tiny_bert, "mnli")
    folder = json.loads(done.out)["folder"]
    ask = ("word1 word2", "word3", "--json")
    mine, back = cli("predict", trained["mnli"], *ask), cli("predict", folder, *ask)
    assert json.loads(mine.out)["predictions"] == json.loads(back.out)["predictions"]
    shown = cli("show", folder).out
    assert "Imported: trained with AdapterHub's library" in " ".join(shown.split())
    spans = cli("ablate", "spans", folder, "--json", "--quiet")
    assert spans.code == 0, spans.err
    assert len(json.loads(spans.out)["cells"]) == 3
    pruned = json.loads(cli("prune", folder, "--max-drop", "100", "--json", "--quiet").out)
    assert len(pruned["remaining"]) == 1
    shown = cli("show", pruned["pruned"], "--json").out
    assert json.loads(shown)["config"]["method"]["layernorms"] == "none"
    assert json.loads(shown)["protocol"].startswith("Imported: ")
    made = cli("bundle", "new", folder, trained["rte"], "--to", "all", "--offline")
    assert made.code == 0, made.err
    # Two tasks in one batch, each with a pooler of its own.
    rows = [{"task": name, "first": "word1 word2", "second": "word3"} for name in ("rte", "mnli")]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = cli(
        "bundle", "predict", "all", "--input", "rows.jsonl", "--to", "answers.jsonl", "--quiet"
    )
    assert done.code == 0, done.err
    mixed = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    for answer, run in zip(mixed, (trained["rte"], folder), strict=True):
        (alone,) = json.loads(cli("predict", run, *ask).out)["predictions"]
        assert answer["probabilities"] == pytest.approx(alone["probabilities"])
    again = take(cli, Path("theirs"), tiny_bert, "mnli")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "is there already; choose another --output" in again.err


def test_from_a_hub_and_on(good: Path, tiny_bert: Path, tiny_glue: Path, tmp_path: Path) -> None:
    """Only their files are fetched, as links into a cache; the card says where it was trained."""
    files = {path.name: path.read_bytes() for path in good.iterdir()}
    extra = {"evil.py": b"open('harmed', 'w')", "run/config.json": b"{}"}
    with HubServer() as server:
        server.add_repo("model", "tester/rte", files | extra)
        large = files[CONFIG] + b" " * 2_000_000
        server.add_repo("model", "tester/large", files | {CONFIG: large})
        assert "adapter.safetensors" in files
        both = {"pytorch_adapter.bin": b"a pickle", "pytorch_model_head.bin": b"another"}
        server.add_repo("model", "tester/both", files | both)

        def run(*arguments: object) -> Finished:
            done = subprocess.run(
                [sys.executable, "-m", "adaptertune", *map(str, arguments)],
                env=server.env(tmp_path / "hf", token="hf_test") | {"PYTHONPATH": str(CHECKOUT)},
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            return Finished(done.returncode, done.stdout, done.stderr)

        done = run(
            "import", "tester/rte", "--task", "rte", "--backbone", tiny_bert, "--data-dir",
            tiny_glue, "--max-length", "24", "--quiet", "--json",
        )  # fmt: skip
        assert done.code == 0, done.err
        folder = tmp_path / json.loads(done.out)["folder"]
        imported = json.loads((folder / "seed-0/result.json").read_text())["imported"]
        assert imported["source"] == "tester/rte"
        assert re.fullmatch(r"[0-9a-f]{40}", imported["commit"])
        assert not [path for path in server.requests if "evil" in path or "run/" in path]
        done = run("import", "tester/large", "--task", "rte", "--backbone", tiny_bert)
        assert done.code == 2
        told = (
            f"error: model tester/large: {CONFIG} has {len(large):,} bytes, more than the 1,048,576"
        )
        assert done.err.startswith(told)
        assert not [path for path in server.requests if "large/resolve" in path]
        done = run(
            "import", "tester/both", "--task", "rte", "--backbone", tiny_bert, "--data-dir",
            tiny_glue, "--max-length", "24", "--output", "both",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert not [path for path in server.requests if path.endswith(".bin")]
        done = run("push", folder, "tester/again")
        assert done.code == 0, done.err
        card = server.repo("model", "tester/again").files["README.md"].decode()
        assert "trained with AdapterHub's library and evaluated with adaptertune" in card
        assert "Not known. Imported from tester/rte (adapters.1.3.0)" in card
        assert "learning_rate" not in card
        for name, data in server.repo("model", "tester/again").files.items():
            assert str(tiny_bert.parent).encode() not in data, name
        (weights,) = (tmp_path / "hf").rglob("*tester--rte/snapshots/*/adapter.safetensors")
        blob = weights.resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"x")
        done = run(
            "import", "tester/rte", "--task", "rte", "--backbone", tiny_bert, "--data-dir",
            tiny_glue, "--output", "again", "--offline",
        )  # fmt: skip
        assert done.code == 2
        assert f"damaged download (its SHA-256 is wrong); delete {blob}" in done.err


def test_a_report_leaves_it_out(good: Path, tiny_bert: Path, cli: Cli) -> None:
    """Nothing is known of how it was trained, so it stands beside nothing."""
    assert take(cli, good, tiny_bert, "rte").code == 0
    assert len(list(store.cells(Path("runs")))) == 1
    assert evidence.read(Path("runs")) == ([], [])
    done = cli("report")
    assert (done.code, done.out) == (2, "")
    (run,) = Path("runs/rte").iterdir()
    assert done.err == (
        "error: runs: no finished run but imported ones, of whose training nothing is known: no report "
        f"sets them beside others; see their scores: adaptertune show {run}\n"
    )


def test_it_is_marked_wherever_it_is_listed(
    good: Path, tiny_bert: Path, tiny_glue: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # at 80 a cell's words are on several lines
    assert take(cli, good, tiny_bert, "rte", "--data-dir", str(tiny_glue)).code == 0
    (run,) = Path("runs/rte").iterdir()
    assert re.search(r" imported ", cli("runs").out)
    assert f"Imported    from {good.name}, adapters.1.3.0\n" in cli("show", run).out
    assert ", imported)" in cli("predict", run, "word1", "word2").err
    (rte,) = (task for task in glue.glue_tasks() if task.name == "rte")
    entry = glue.Entry(rte, "test", glue.choose_runs([], Path("runs"))["rte"])
    made = console()
    with made.capture() as shown:
        made.print(predictions.submission(Path("x.zip"), [entry]))
    assert "imported: nothing is known of its training" in shown.get()


@given(width=st.integers(1, 4096), size=st.integers(1, 4096))
def test_the_reduction_factor_comes_back_as_the_size(width: int, size: int) -> None:
    factor = outgoing.reduction_factor(width, size)
    assert int(width // factor) == size, "as AdapterHub's library computes it"
    assert math.isclose(factor, width / size, rel_tol=1e-12)


# ---- Folders that mean harm ---------------------------------------------------------------------


class Harm:
    """What would write a file if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("harmed", "w")


Folder = Path


def edited(path: str, **changes: Any) -> Callable[[Folder], None]:
    """Changes to a JSON file's keys; those of its ``config`` by ``config__key``."""

    def edit(folder: Folder) -> None:
        content = json.loads((folder / path).read_text())
        for key, value in changes.items():
            inner = content["config"] if key.startswith("config__") else content
            inner[key.removeprefix("config__")] = value
        (folder / path).write_text(json.dumps(content))

    return edit


def tensors(
    change: Callable[[dict[str, torch.Tensor]], Any], name: str = "adapter.safetensors"
) -> Callable[[Folder], None]:
    def edit(folder: Folder) -> None:
        found = load_tensors(folder / name)
        changed = change(found)
        save_file(found if changed is None else changed, folder / name)

    return edit


def replaced(old: str, new: str, content: bytes) -> Callable[[Folder], None]:
    def replace(folder: Folder) -> None:
        (folder / old).unlink()
        (folder / new).write_bytes(content)

    return replace


def written(name: str, content: bytes) -> Callable[[Folder], None]:
    return replaced(name, name, content)


def pickled(value: object, *, zipped: bool = True) -> Callable[[Folder], None]:
    """The weights as a file of torch's, instead of safetensors."""

    def write(folder: Folder) -> None:
        (folder / "adapter.safetensors").unlink()
        path = folder / "pytorch_adapter.bin"
        torch.save(value, path, _use_new_zipfile_serialization=zipped)

    return write


def linked(name: str, target: str) -> Callable[[Folder], None]:
    def link(folder: Folder) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return link


def pipe(folder: Folder) -> None:
    (folder / "head_config.json").unlink()
    os.mkfifo(folder / "head_config.json")


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def first(found: dict[str, torch.Tensor]) -> str:
    return min(found)


def renamed(found: dict[str, torch.Tensor]) -> None:
    found["../../../harmed"] = found.pop(first(found))


def with_nan(found: dict[str, torch.Tensor]) -> None:
    found[first(found)].view(-1)[0] = math.nan


HOSTILE: dict[str, tuple[Callable[[Folder], None], str]] = {
    "a plain pickle": (
        written("adapter.safetensors", pickle.dumps(Harm())), "damaged, or no safetensors file",
    ),
    "a plain pickle by their name": (
        replaced("adapter.safetensors", "pytorch_adapter.bin", pickle.dumps(Harm())),
        "damaged, or no file of torch.save",
    ),
    "harm in torch's archive": (pickled({"x": Harm()}), "nothing of it was executed"),
    "harm in torch's old format": (
        pickled({"x": Harm()}, zipped=False), "damaged, or no file of torch.save",
    ),
    "a list": (pickled([torch.zeros(2)]), "holds no tensors"),
    "numbers for tensors": (pickled({"x": 1}), "'x' is no plain tensor"),
    "a sparse tensor": (pickled({"x": torch.eye(3).to_sparse()}), "'x' is no plain tensor"),
    "a tensor without memory": (
        pickled({"x": torch.zeros(2, device="meta")}), "'x' is no plain tensor",
    ),
    "whole numbers": (tensors(lambda found: {"x": torch.arange(3)}), "'x' is no plain tensor"),
    "a tensor of 10^18 numbers in four bytes": (
        pickled({"x": torch.zeros(1).expand(10**9, 10**9)}), "'x' has shape (1000000000, 1000000000)",
    ),
    "a huge header": (
        written("adapter.safetensors", header(b"{}", 2**63 - 1)), "damaged, or no safetensors file",
    ),
    "a negative offset": (
        written(
            "adapter.safetensors",
            header(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}'),
        ),
        "damaged, or no safetensors file",
    ),
    "a shape beyond the file": (
        written(
            "adapter.safetensors",
            header(b'{"x": {"dtype": "F32", "shape": [9999999999], "data_offsets": [0, 4]}}') + b"0000",
        ),
        "damaged, or no safetensors file",
    ),
    "an empty file": (written("adapter.safetensors", b""), "damaged, or no safetensors file"),
    "no weights": (
        lambda folder: (folder / "adapter.safetensors").unlink(), "no adapter.safetensors and no",
    ),
    "no head": (
        lambda folder: (folder / "head_config.json").unlink(), "save_adapter(…, with_head=True)",
    ),
    "no configuration": (
        lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config.json",
    ),
    "a name that leads elsewhere": (
        tensors(renamed), "tensors are not those of its configuration, '../../../harmed' for one",
    ),
    "an adapter's name that leads elsewhere": (
        edited("adapter_config.json", name="../../../harmed"), "'name' should match pattern",
    ),
    "a name of control characters": (
        edited("adapter_config.json", config__architecture="\x1b[2Jprefix"),
        r"adapter_config.json: a control character in '\x1b[2Jprefix'",
    ),
    "a version that a terminal obeys": (
        edited("head_config.json", version="adapters.1.3.0\x9b31m"), "a control character in 'adap",
    ),
    "a key without end": (
        edited("adapter_config.json", **{"x" * 5000: 1}), "a text of 5,000 characters (xxx",
    ),
    "half a character": (edited("adapter_config.json", name="\ud800"), "Invalid JSON"),
    "a tensor too many": (
        tensors(lambda found: found | {"bert.pooler.dense.weight": torch.zeros(32, 32)}),
        "'bert.pooler.dense.weight' for one",
    ),
    "another size": (
        tensors(lambda found: {name: t[:3].clone() if ".adapter_down.0." in name else t
                               for name, t in found.items()}),
        "adapters of shape (3, 32), but 'config.reduction_factor' gives size 8",
    ),
    "one tensor of another shape": (
        tensors(lambda found: found | {first(found): torch.zeros(1, 2)}), "has shape (1, 2), not",
    ),
    "a tensor of many dimensions": (
        tensors(lambda found: found | {first(found): torch.zeros(1, 2, 3)}), "has shape (1, 2, 3)",
    ),
    "not a number": (tensors(with_nan), "is not finite"),
    "infinite": (
        tensors(lambda found: {name: t / 0 for name, t in found.items()}, "model_head.safetensors"),
        "is not finite",
    ),
    "a head's tensor of another": (
        tensors(lambda found: {f"x{name}": t for name, t in found.items()}, "model_head.safetensors"),
        "tensors are not those of its head",
    ),
    "more labels than outputs": (
        edited("head_config.json", config__num_labels=3),
        "the head has another number of labels than it says",
    ),
    "a label twice": (
        edited("head_config.json", config__label2id={"a": 0, "b": 0}),
        "'label2id' does not number 2 labels",
    ),
    "others' labels": (
        edited("head_config.json", config__label2id={"<b>": 0, "\u200b": 1}),
        r"the head's labels are <b>, \u200b, those of task 'rte' entailment, not_entailment",
    ),
    "deep JSON": (written("adapter_config.json", b"[" * 100_000), "damaged (RecursionError"),
    "no JSON object": (written("head_config.json", b"[]"), "damaged (ValueError: not an object)"),
    "large JSON": (written("head_config.json", b" " * 2_000_000), "damaged (ValueError: too large)"),
    "a number that is none": (
        written("adapter_config.json", b'{"hidden_size": NaN}'), "NaN is no number",
    ),
    "an infinite scale": (
        edited("adapter_config.json", config__scaling=10**400), "'scaling'",
    ),
    "a tiny reduction factor": (
        edited("adapter_config.json", config__reduction_factor=1e-308),
        "does not give one size for all layers",
    ),
    "a link out of the folder": (
        linked("adapter.safetensors", "/etc/hostname"), "a link that leads out of its folder",
    ),
    "a link to a device": (
        linked("head_config.json", "/dev/zero"), "a link that leads out of its folder",
    ),
    "a link to itself": (linked("head_config.json", "head_config.json"), "leads nowhere"),
    "a pipe": (pipe, "is no file"),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that can be imported."""
    folder = tmp_path_factory.mktemp("good") / "rte"
    run = load.find(str(trained["rte"]), trained["rte"].parent)
    outgoing.export(run, folder, offline=True, drop_layernorms=False)
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_means_harm(
    name: str, good: Path, tiny_bert: Path, cli: Cli, tmp_path: Path
) -> None:
    spoil, complaint = HOSTILE[name]
    shutil.copytree(good, tmp_path / "in")
    spoil(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    done = take(cli, Path("in"), tiny_bert, "rte", "--output", "out")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert "\x1b" not in done.err
    assert complaint in done.err
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


def test_an_archive_that_unpacks_to_more_than_adapters_can_be(
    good: Path, tiny_bert: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_WEIGHTS", 1 << 20)
    shutil.copytree(good, tmp_path / "in")
    (tmp_path / "in" / "adapter.safetensors").unlink()
    path = tmp_path / "in" / "pytorch_adapter.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 21))
    assert path.stat().st_size < 1 << 14
    done = take(cli, Path("in"), tiny_bert, "rte")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "pytorch_adapter.bin: too large for adapters" in done.err


# A key of their configuration and a value that means another computation than there is here.
OTHER_KINDS: list[tuple[dict[str, Any], str]] = [
    ({"config__original_ln_after": False}, "'original_ln_after' should be True, not False"),
    ({"config__ln_after": True}, "'ln_after' should be False, not True"),
    ({"config__use_gating": True}, "'use_gating' should be False, not True"),
    ({"config__phm_layer": True}, "'phm_layer' should be False, not True"),
    ({"config__inv_adapter": "nice"}, "'inv_adapter' should be null, not 'nice'"),
    ({"config__scaling": "learned"}, "'scaling' should be a valid number, not 'learned'"),
    ({"config__scaling": -1.0}, "'scaling' should be greater than 0, not -1.0"),
    ({"config__non_linearity": "leakyrelu"}, "'config.non_linearity' is 'leakyrelu'; only gelu, "),
    ({"config__residual_before_ln": "post_add"}, "'config.residual_before_ln' is 'post_add'"),
    (
        {"config__original_ln_before": True, "config__residual_before_ln": False},
        "'config.residual_before_ln' is False, for which there is no counterpart",
    ),
    ({"config__mh_adapter": False, "config__output_adapter": False}, "has adapters in no place"),
    ({"config__reduction_factor": {"0": 4, "1": 8}}, "does not give one size for all layers"),
    ({"config__architecture": "lora"}, "'lora' is no bottleneck adapter; houlsby"),
    ({"config__architecture": "union"}, "'union' is no bottleneck adapter"),
    ({"config__something_new": 1}, "unknown key 'something_new'"),
    ({"model_type": "roberta"}, "'model_type' should be 'bert', not 'roberta'"),
    ({"hidden_size": 48}, "gives size 12"),
    ({"config__leave_out": [0]}, "adapters in 2 layers, 1 the last"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "complaint"), OTHER_KINDS, ids=lambda value: str(value)[:40])
def test_another_configuration_is_refused_by_name(
    changes: dict[str, Any], complaint: str, good: Path, tiny_bert: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "in")
    edited("adapter_config.json", **changes)(tmp_path / "in")
    done = take(cli, Path("in"), tiny_bert, "rte")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert complaint in done.err
    assert "; " in done.err.removeprefix("error: "), "it says what to do"


def test_digits_are_names_where_the_task_has_them(good: Path) -> None:
    """In whatever order; else they are numbers, as LABEL_0 is."""
    foreign = replace(
        layout.read(*incoming.fetch(str(good), revision=None, offline=True)), labels=("0", "1")
    )
    task = load_task("rte").model_copy(update={"labels": ("1", "0")})
    assert foreign.labels_as_in(task) == ("0", "1")
    swapped = incoming._in_order(foreign, task)["head.weight"]
    assert torch.equal(swapped, foreign.tensors["head.weight"][[1, 0]])
    assert foreign.labels_as_in(load_task("rte")) is None
    assert incoming._in_order(foreign, load_task("rte")) is foreign.tensors
    named = replace(foreign, labels=("LABEL_0", "LABEL_1"))
    assert named.labels_as_in(task) is None


def test_a_base_model_that_nobody_else_can_have_is_asked_for(
    good: Path, cli: Cli, tmp_path: Path
) -> None:
    """And none is taken in its place."""
    shutil.copytree(good, tmp_path / "in")
    edited("adapter_config.json", model_name="/home/them/bert")(tmp_path / "in")
    done = cli("import", "in", "--task", "rte", "--offline")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "its base model was '/home/them/bert', which is no name of the hub; say" in done.err


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"config__head_type": "tagging"}, "'head_type' should be 'classification', not 'tagging'"),
        (
            {"config__layers": 1},
            "a head with layers=1, activation_function='tanh', use_pooler=False",
        ),
        ({"config__use_pooler": True}, "layers=2, activation_function='tanh', use_pooler=True"),
        ({"config__activation_function": "relu"}, "only layers=1, use_pooler=True and layers=2"),
        ({"config": None, "model_class": "BertForTokenClassification"}, "a classification head is"),
    ],
)
def test_another_head_is_refused(
    changes: dict[str, Any], complaint: str, good: Path, tiny_bert: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "in")
    edited("head_config.json", **changes)(tmp_path / "in")
    done = take(cli, Path("in"), tiny_bert, "rte")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert complaint in done.err


def test_what_else_does_not_fit(
    good: Path, trained: dict[str, Path], tiny_bert: Path, cli: Cli, tmp_path: Path
) -> None:
    done = take(cli, good, tiny_bert, "stsb")
    assert "the head has 2 outputs, task 'stsb' 1; choose the --task" in done.err
    done = take(cli, good, tiny_bert, "mrpc")
    assert "the head's labels are entailment, not_entailment, those of task 'mrpc'" in done.err
    done = cli("import", good, "--task", "rte", "--backbone", "minilm", "--offline")
    assert "of a model 32 wide; minilm is 384 wide; name its own with --backbone" in done.err
    (tmp_path / "roberta").mkdir()
    roberta = kinds.make("roberta", tmp_path / "roberta")
    run = load.find(str(trained["stsb"]), trained["stsb"].parent)
    outgoing.export(run, tmp_path / "plain", offline=True, drop_layernorms=False)
    done = take(cli, tmp_path / "plain", roberta, "stsb")
    assert "of a BERT; " in done.err
    assert "roberta is a roberta; name its own" in done.err
    other = cli("train", "--task", "rte", "--offline", "--backbone", roberta, "--seed", "0",
                "--epochs", "1", "--max-length", "24", "--set", "method.layernorms=none",
                "--quiet", "--json")  # fmt: skip
    done = cli("export", json.loads(other.out)["folder"], "--to", "out", "--offline")
    assert "no place for a roberta as we train it; export a run on a BERT" in done.err
    assert not (tmp_path / "out").exists()
    (tmp_path / "in.zip").touch()
    done = take(cli, tmp_path / "in.zip", tiny_bert, "rte")
    assert "no such folder; give an unpacked folder, or OWNER/NAME" in done.err
    done = take(cli, good, tiny_bert, "rte", "--revision", "main")
    assert "--revision: goes with OWNER/NAME on the hub" in done.err
    full = cli("train", "--task", "rte", "--offline", "--backbone", tiny_bert, "--method", "layernorm",
               "--seed", "0", "--epochs", "1", "--max-length", "24", "--quiet", "--json")  # fmt: skip
    done = cli("export", json.loads(full.out)["folder"], "--to", "out", "--offline")
    assert "no place for method 'layernorm'; export a run of method adapter" in done.err


def test_an_export_that_could_not_be_written_can_be_tried_again(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load.find(str(trained["rte"]), trained["rte"].parent.parent)

    def full(path: Path, value: object) -> None:
        raise StoreError("cannot be written", where=path)

    monkeypatch.setattr(outgoing, "write_json", full)
    with pytest.raises(StoreError, match="cannot be written"):
        outgoing.export(run, tmp_path / "out", offline=True, drop_layernorms=False)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    outgoing.export(run, tmp_path / "out", offline=True, drop_layernorms=False)


def test_a_pickle_that_is_not_read_decides_nothing(good: Path, tmp_path: Path) -> None:
    """Not which run it is: it may lie in the hub's cache or not."""
    alone, _ = incoming.fetch(str(good), revision=None, offline=True)
    both = tmp_path / good.name
    shutil.copytree(good, both)
    before = incoming.fetch(str(both), revision=None, offline=True)[1]
    (both / "pytorch_adapter.bin").write_bytes(b"a pickle")
    assert incoming.fetch(str(both), revision=None, offline=True)[1] == before
    assert alone == good
