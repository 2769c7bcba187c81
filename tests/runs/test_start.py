"""Runs that start from another run's weights: what is taken over, what is new, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptertune import config
from adaptertune.errors import AdapterTuneError, CheckpointError, ConfigError, Interrupted
from adaptertune.executors.serial import run_cell
from adaptertune.model.classifier import Classifier
from adaptertune.runs import load, reopen, results
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Plan
from adaptertune.runs.plan import plan as make_plan
from adaptertune.share.copy import copy_run
from adaptertune.train.checkpoint import read_tensors, trained_tensors
from tests.conftest import Finished
from tests.runs.test_execute import Quiet, comparable, plan

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def begun(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    """A finished run of a task, two seeds, made once."""
    root = tmp_path_factory.mktemp("begun")
    made: dict[str, Plan] = {}

    def finished(task: str, **changes: Any) -> Plan:
        key = f"{task} {changes}"
        if key not in made:
            made[key] = plan(tiny_bert, root, task=task, training__epochs=1, **changes)
            run_cell(made[key], Quiet())
        return made[key]

    return finished


def checkpoint(made: Plan, seed: int) -> Tensors:
    return read_tensors(made.folder.seed(seed).checkpoint)[0]


def best(made: Plan) -> int:
    result = made.folder.read_result()
    assert result is not None
    assert result.best_seed is not None
    return result.best_seed


def split(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Head and body."""
    head = {name: t for name, t in tensors.items() if name.startswith("head.")}
    return head, {name: t for name, t in tensors.items() if name not in head}


def first_values(made: Plan, seed: int) -> tuple[Tensors, Tensors]:
    return split(trained_tensors(load_models(made, [seed])[seed]))


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_digests_of_runs_that_start_from_the_backbone_are_what_they_were() -> None:
    """As the code gave them before there was such a setting: finished runs are found again."""
    expected: list[tuple[dict[str, Any], str, str]] = [
        (
            {},
            "170231ca750f48e3428e7ab9ceb168d165dabb5ef31f5873309abf0cbf1700f2",
            "b45e2f411ed4ecd76ba0ce53060cbc6b693ea01db9ac636af1ed6ee5cd11b35a",
        ),
        (
            {"method.name": "full"},
            "cd6a3f1d82c83d45e1b19a6283880a6695b8598b2a9e56f3c48932a131c31b44",
            "c60e29ab518e25244eccea117ab65b3eb2f3c2357f3d35963bc066a9873e44dc",
        ),
        (
            {"method.size": 8, "protocol": "held-out", "stack": "on"},
            "5ea52deceae2e908e309ba8c07e8cc92593903f07d64ba6f3a292b19b4135499",
            "3bd9082087df9af60a078c27a54a89c4915c1a7c2a1edb9519dfb22400cad461",
        ),
    ]
    for more, cell, third in expected:
        fixed = {"task": "rte", "offline": True, "training.precision": "fp32", "device": "cpu"}
        made = make_plan(config.resolve({key: (v, key) for key, v in (fixed | more).items()}))
        assert (made.digest, made.seed_digest(3)) == (cell, third)


@pytest.mark.parametrize(
    "method",
    [{}, {"method__name": "full", "method__size": None}],
    ids=["adapter", "full"],
)
def test_all_that_trained_is_taken_over_and_the_head_is_the_seeds_own(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan], method: dict[str, Any]
) -> None:
    mnli = begun("mnli", **method)
    made = plan(tiny_bert, tmp_path, init_from=str(mnli.folder.path), **method)
    plain = plan(tiny_bert, tmp_path, **method)
    _, body = split(checkpoint(mnli, best(mnli)))
    for seed in made.config.seeds:
        new_head, new_body = first_values(made, seed)
        own_head, own_body = first_values(plain, seed)
        assert_equal(new_body, body)
        assert_equal(new_head, own_head)
        assert any(not torch.equal(own_body[name], body[name]) for name in body)
    heads = [first_values(made, seed)[0]["head.weight"] for seed in made.config.seeds]
    assert not torch.equal(*heads)


def test_a_seed_may_be_named(tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]) -> None:
    mnli = begun("mnli")
    for seed in (0, 1):
        made = plan(tiny_bert, tmp_path, init_from=str(mnli.folder.seed(seed).path))
        assert_equal(first_values(made, 0)[1], split(checkpoint(mnli, seed))[1])
        assert made.init_from is not None
        assert made.init_from.digest == mnli.seed_digest(seed)


def test_the_head_too_where_labels_are_the_same(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    qnli = begun("qnli")
    made = plan(tiny_bert, tmp_path, init_from=str(qnli.folder.path))
    assert made.init_from is not None
    assert made.init_from.head
    values = trained_tensors(load_models(made, [0])[0])
    assert_equal(values, checkpoint(qnli, best(qnli)))


def test_labels_in_another_order_are_the_same_labels(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    """WNLI has not_entailment first, RTE entailment: each label keeps its logit."""
    wnli = begun("wnli")
    made = plan(tiny_bert, tmp_path, init_from=str(wnli.folder.path))
    loaded = load.load(load.find(str(wnli.folder.path), tmp_path), device="cpu")
    tokens = torch.tensor([[2, 7, 9, 3, 11, 12, 3]])
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])

    def answers(model: Classifier) -> Any:
        with torch.inference_mode():
            return model(tokens, segments, None).numpy()[0]

    theirs = dict(zip(wnli.task.labels or (), answers(loaded.model), strict=True))
    ours = dict(zip(made.task.labels or (), answers(load_models(made, [0])[0]), strict=True))
    assert list(ours) == list(reversed(theirs))
    assert ours == theirs


def test_scores_of_another_range_get_a_new_head(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    stsb = begun("stsb")
    other = tmp_path / "own.yaml"
    text = stsb.task.model_dump_json(exclude_none=True)
    assert '"range":[0.0,5.0]' in text
    for written, head in ((text, True), (text.replace("[0.0,5.0]", "[-1.0,5.0]"), False)):
        other.write_text(written)
        made = plan(tiny_bert, tmp_path, task=str(other), init_from=str(stsb.folder.path))
        assert made.init_from is not None
        assert made.init_from.head is head


def test_trained_recorded_and_told(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan], cli: Callable[..., Finished]
) -> None:
    mnli = begun("mnli")
    seed = best(mnli)
    made = plan(tiny_bert, tmp_path, init_from=str(mnli.folder.path))
    summary = run_cell(made, Quiet())
    facts = results.InitFrom(
        run=f"mnli/{mnli.folder.path.name}/seed-{seed}",
        task="mnli",
        seed=seed,
        digest=mnli.seed_digest(seed),
        sha256=load_sha256(mnli.folder.seed(seed).checkpoint),
        head=False,
    )
    own = made.folder.seed(0).read_result()
    assert own is not None
    assert summary.init_from == own.init_from == facts
    assert own.config["init_from"] == [str(mnli.folder.path)]
    assert made.digest != plan(tiny_bert, tmp_path).digest
    identity = json.loads(made.folder.config.read_text())["identity"]
    assert identity["init_from"] == {"digest": facts.digest, "checkpoint": facts.sha256}
    words = f"Started from what {facts.run} trained, but for the head, which is new"
    assert words in summary.protocol
    shown = " ".join(cli("show", made.folder.path).out.split())
    assert words in shown
    assert all(figure.why_not for figure in summary.published)


def load_sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_by_whatever_path_it_is_the_same_run(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    mnli = begun("mnli")
    here = plan(tiny_bert, tmp_path, init_from=str(mnli.folder.path))
    seed = plan(tiny_bert, tmp_path, init_from=str(mnli.folder.seed(best(mnli)).path))
    shutil.copytree(mnli.folder.path, tmp_path / "moved")
    moved = plan(tiny_bert, tmp_path, init_from=str(tmp_path / "moved"))
    monkeypatch.chdir(tmp_path)
    relative = plan(tiny_bert, tmp_path, init_from="moved")
    assert len({one.digest for one in (here, seed, moved, relative)}) == 1
    other = plan(tiny_bert, tmp_path, init_from=str(mnli.folder.seed(1 - best(mnli)).path))
    assert other.digest != here.digest


def test_a_chain_of_runs(tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]) -> None:
    second = plan(tiny_bert, tmp_path, init_from=str(begun("mnli").folder.path), seeds=1)
    run_cell(second, Quiet())
    third = plan(tiny_bert, tmp_path, init_from=second.digest[:12], task="qnli")
    assert_equal(first_values(third, 1)[1], split(checkpoint(second, 0))[1])


@pytest.mark.parametrize("stack", ["on", "off"])
def test_stopped_and_gone_on_with(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan], stack: str
) -> None:
    start = str(begun("mnli").folder.path)
    whole = plan(tiny_bert, tmp_path / "whole", init_from=start, stack=stack)
    run_cell(whole, Quiet())
    made = plan(tiny_bert, tmp_path / "stopped", init_from=start, stack=stack)
    with pytest.raises(Interrupted):
        run_cell(made, Quiet(stop_at=9))
    run_cell(made, Quiet())
    for seed in made.config.seeds:
        ours, theirs = made.folder.seed(seed), whole.folder.seed(seed)
        assert ours.checkpoint.read_bytes() == theirs.checkpoint.read_bytes()
        assert comparable(ours.result) == comparable(theirs.result)


def test_opened_again_when_the_first_run_is_gone(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    shutil.copytree(begun("mnli").folder.path, tmp_path / "first")
    made = plan(tiny_bert, tmp_path, init_from=str(tmp_path / "first"))
    summary = run_cell(made, Quiet())
    shutil.rmtree(tmp_path / "first")
    opened = reopen.reopen(made.folder, summary)
    assert opened.plan.init_from == made.init_from
    values = trained_tensors(opened.load(0))
    assert_equal(values, checkpoint(made, 0))


def test_a_copy_for_others_tells_no_path(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    mnli = begun("mnli")
    for number, place in enumerate((mnli.folder.path, mnli.folder.seed(1).path)):
        made = plan(tiny_bert, tmp_path / "runs", init_from=str(place))
        run_cell(made, Quiet())
        copied = copy_run(
            load.find(str(made.folder.path), tmp_path), tmp_path / f"copy-{number}" / "cell"
        )
        name = mnli.folder.path.name
        expected = [name, f"{name}/seed-1"][number]
        assert copied.result.config["init_from"] == [expected]
        for path in copied.cell.path.rglob("*.json"):
            assert str(mnli.config.output) not in path.read_text(), path


def test_of_several_runs_the_one_that_fits(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    small, full = begun("mnli"), begun("mnli", method__name="full", method__size=None)
    both = [str(small.folder.path), str(full.folder.path)]
    made = plan(tiny_bert, tmp_path, init_from=both)
    assert made.init_from is not None
    assert made.init_from.digest == small.seed_digest(best(small))
    made = plan(tiny_bert, tmp_path, init_from=both, method__name="full", method__size=None)
    assert made.init_from is not None
    assert made.init_from.digest == full.seed_digest(best(full))
    with pytest.raises(ConfigError, match=r"both fit method 'adapter'; give one run for each"):
        plan(tiny_bert, tmp_path, init_from=[*both, str(small.folder.seed(0).path)])


def test_initial_weights_that_changed_meanwhile(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]
) -> None:
    shutil.copytree(begun("mnli").folder.path, tmp_path / "first")
    made = plan(tiny_bert, tmp_path, init_from=str(tmp_path / "first"))
    assert made.initial is not None
    content = bytearray(made.initial.read_bytes())
    content[-1] ^= 1
    made.initial.write_bytes(content)
    with pytest.raises(CheckpointError, match="changed since it was looked up; run the command"):
        load_models(made, [0])


def without(name: str) -> Callable[[Path], None]:
    def spoil(cell: Path) -> None:
        for path in cell.glob(name):
            path.unlink()

    return spoil


def cut(cell: Path) -> None:
    for path in cell.glob("seed-*/checkpoint.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])


WRONG: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "another size": (
        lambda _: None, {"method__size": 4},
        r"init_from: '.*first' does not fit: its method\.size is 8, not 4; give a run of the same",
    ),
    "another place": (
        lambda _: None, {"method__places": "attention"}, r"its method\.places is both, not attention",
    ),
    "other layers": (lambda _: None, {"method__layers": "1"}, r"its method\.layers is all, not 1"),
    "another method": (
        lambda _: None, {"method__name": "full", "method__size": None},
        r"its method is adapter, not full",
    ),
    "not finished": (
        without("result.json"), {},
        r"init_from: .*first: not finished, so no seed is the best yet; finish it, or name the folder",
    ),
    "a lost checkpoint": (
        without("seed-*/checkpoint.safetensors"), {}, r"checkpoint\.safetensors: no such file",
    ),
    "a cut checkpoint": (cut, {}, r"checkpoint\.safetensors: damaged, or not a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(
    tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan], name: str
) -> None:
    spoil, changes, complaint = WRONG[name]
    first = tmp_path / "first"
    shutil.copytree(begun("mnli").folder.path, first)
    spoil(first)
    with pytest.raises(AdapterTuneError, match=complaint) as raised:
        plan(tiny_bert, tmp_path, init_from=str(first), **changes)
    assert "\n" not in str(raised.value)


def test_another_backbone_and_no_run_at_all(
    tiny_bert: Path,
    tiny_kind: Callable[[str], Path],
    tmp_path: Path,
    begun: Callable[..., Plan],
) -> None:
    start = str(begun("mnli").folder.path)
    with pytest.raises(ConfigError, match=r"does not fit: its backbone is .*SHA-256.*, not"):
        plan(tiny_kind("roberta"), tmp_path, init_from=start)
    with pytest.raises(AdapterTuneError, match=r"init_from: .*: no run 'none'"):
        plan(tiny_bert, tmp_path, init_from="none")


def test_it_learns_from_there(tiny_bert: Path, tmp_path: Path, begun: Callable[..., Plan]) -> None:
    """The first epoch's loss is another one than from the backbone, with one and the same order."""
    start = str(begun("qnli").folder.path)
    losses = []
    for name, changes in (("plain", {}), ("begun", {"init_from": start})):
        made = plan(tiny_bert, tmp_path / name, seeds=1, training__epochs=1, **changes)
        run_cell(made, Quiet())
        losses.append(json.loads(made.folder.seed(0).epochs.read_text())["train_loss"])
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]
