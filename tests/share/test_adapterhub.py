"""Adapters to and from AdapterHub's own library, and folders that mean harm."""

from __future__ import annotations

import importlib
import json
import math
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
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

from adaptertune.data.sources import Source, load_splits
from adaptertune.model.inject import adapters_removed
from adaptertune.runs import load
from adaptertune.share import adapterhub
from adaptertune.tasks import load as load_task
from tests.conftest import CHECKOUT, Finished, train_tiny

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
        "method.activation=gelu_tanh", "method.norm=layer", "method.size=7",
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
    # Initial values of usual size: by the default's the adapters would be next to nothing.
    cells = {
        task: train_tiny(
            tiny_bert,
            output,
            task,
            "--init-std",
            "0.5",
            *(word for key in keys for word in ("--set", key)),
        )
        for task, keys in OURS.items()
    }
    return cells | {"mrpc": train_tiny(tiny_bert, output, "mrpc")}


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
    again = cli("export", cell, "--to", "out", "--offline", "--drop-layernorms")
    assert "is not empty; choose another --to" in again.err


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


@given(width=st.integers(1, 4096), size=st.integers(1, 4096))
def test_the_reduction_factor_comes_back_as_the_size(width: int, size: int) -> None:
    factor = adapterhub.reduction_factor(width, size)
    assert int(width // factor) == size, "as AdapterHub's library computes it"
    assert math.isclose(factor, width / size, rel_tol=1e-12)
