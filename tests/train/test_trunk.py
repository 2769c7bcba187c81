"""Hidden states of frozen lower layers, kept on disk: they change nothing but the time."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptertune import config, tasks
from adaptertune.data.encode import Encoded, encode, load_tokenizer
from adaptertune.data.sources import Source, load_splits
from adaptertune.files import exclusive
from adaptertune.model.classifier import Classifier
from adaptertune.model.dropout import Dropout
from adaptertune.train import evaluate, trunk
from adaptertune.train.loop import Diverged, Lane, Outcome, fit
from tests.classifiers import build
from tests.train.test_loop import TRAINING, Recorder

CPU = torch.device("cpu")
UPPER = config.Adapter(size=8, init_std=1e-2, activation="gelu", layers=(1,))
TASK = tasks.load("rte")


@pytest.fixture(scope="module")
def splits(tiny_bert: Path) -> list[Encoded]:
    tokenizer = load_tokenizer(tiny_bert)
    source = Source("sample", None, offline=True)
    found = load_splits(TASK, source, ["train", "validation"])
    whole = [encode(tokenizer, split, 32) for split in found]
    return [
        encoded.subset(np.arange(count)) for encoded, count in zip(whole, (50, 30), strict=True)
    ]


def place(folder: Path, limit: float = 1e9, digest: str = "d") -> trunk.Place:
    return trunk.Place(folder, limit, digest)


def keep(
    model: Classifier, splits: list[Encoded], where: trunk.Place, **changes: Any
) -> tuple[list[Encoded], float] | None:
    given: dict[str, Any] = {
        "progress": lambda done, total: None,
        "note": lambda text: pytest.fail(text),
    }
    return trunk.with_hidden(model, splits, where, CPU, **(given | changes))


def test_where_memory_is_short_fewer_rows_are_computed_at_a_time(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = build(tiny_bert, UPPER), []
    whole = kept(model, splits, place(tmp_path / "whole"))
    compute = Classifier.trunk

    def counted(self: Classifier, tokens: torch.Tensor, *more: Any) -> torch.Tensor:
        rows.append(len(tokens))
        return compute(self, tokens, *more)

    monkeypatch.setattr(Classifier, "trunk", counted)
    found = keep(model, splits, place(tmp_path / "parts"), num_parts=16)
    assert found is not None
    assert max(rows) == 4
    for one, other in zip(found[0], whole, strict=True):
        assert one.hidden is not None
        assert other.hidden is not None
        np.testing.assert_allclose(np.asarray(one.hidden), np.asarray(other.hidden), atol=1e-5)


def kept(model: Classifier, splits: list[Encoded], where: trunk.Place) -> list[Encoded]:
    found = keep(model, splits, where)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("method", "depth"),
    [
        (UPPER, 1),
        (config.Adapter(size=8, init_std=1e-2, activation="gelu"), 0),
        (config.Adapter(size=8, init_std=1e-2, activation="gelu", layers=(0,)), 0),
        (config.TopLayers(k=1), 1),
        (config.Full(), 0),
        (config.LayerNorm(), 0),
        (config.BitFit(), 0),
    ],
)
def test_the_trunk_is_what_lies_below_all_that_trains(
    tiny_bert: Path, method: config.Method, depth: int
) -> None:
    model = build(tiny_bert, method)
    assert model.trunk_depth == depth
    below = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad
        and (".embeddings." in name or any(f".layer.{i}." in name for i in range(depth)))
    ]
    assert depth == 0 or below == []


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_logits_are_those_without_it(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, precision: str, tolerance: float
) -> None:
    model = build(tiny_bert, UPPER, precision=precision)
    for plain, cached in zip(splits, kept(model, splits, place(tmp_path)), strict=True):
        assert cached.hidden is not None
        assert cached.hidden.shape == (len(plain.tokens), 32)
        ours, theirs = (evaluate.logits(model, each, CPU) for each in (cached, plain))
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance)


def test_training_is_that_without_it(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path
) -> None:
    outcomes: list[Outcome | Diverged] = []
    for use in (False, True):
        model = build(tiny_bert, UPPER)
        train, validation = kept(model, splits, place(tmp_path)) if use else splits
        lane = Lane(0, model, Recorder())
        outcomes += fit([lane], TASK, train, validation, TRAINING, device=CPU)
    without, using = outcomes
    assert isinstance(without, Outcome)
    assert isinstance(using, Outcome)
    np.testing.assert_allclose(using.logits, without.logits, atol=1e-5, rtol=1e-5)


def test_dropout_below_is_off_unless_asked_for(tiny_bert: Path, splits: list[Encoded]) -> None:
    """What the trunk gives in training is what it gives in evaluation; above it there is dropout."""
    model = build(tiny_bert, UPPER)
    tokens = torch.from_numpy(splits[0].tokens[None, :9].astype(np.int64))
    segments = torch.zeros_like(tokens)
    known = model.trunk(tokens, segments, None)

    def logits(hidden: torch.Tensor | None, *, below: bool) -> torch.Tensor:
        # A seed's masks come in the order in which they are asked for: those above are the same.
        result: torch.Tensor = model(
            tokens, segments, None, Dropout(1, CPU), hidden=hidden, trunk_dropout=below
        )
        return result

    assert torch.equal(logits(None, below=False), logits(known, below=False))
    assert not torch.equal(logits(None, below=True), logits(known, below=True))
    assert not torch.equal(logits(known, below=False), model(tokens, segments, None))


def test_what_may_only_be_read_is_used(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(tiny_bert, UPPER)
    first = kept(model, splits, place(tmp_path))

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "utime", refused)
    again = keep(model, splits, place(tmp_path), progress=lambda *_: pytest.fail("again"))
    assert again is not None
    assert again[1] == 0
    for a, b in zip(first, again[0], strict=True):
        np.testing.assert_array_equal(a.hidden, b.hidden)


def test_it_is_computed_once(tiny_bert: Path, splits: list[Encoded], tmp_path: Path) -> None:
    model, done = build(tiny_bert, UPPER), []
    first = keep(model, splits, place(tmp_path), progress=lambda d, n: done.append((d, n)))
    assert first is not None
    assert first[1] > 0
    assert done[-1] == (80, 80)
    again = keep(model, splits, place(tmp_path), progress=lambda *_: pytest.fail("again"))
    assert again is not None
    assert again[1] == 0
    for a, b in zip(first[0], again[0], strict=True):
        np.testing.assert_array_equal(a.hidden, b.hidden)


@pytest.mark.parametrize("damage", ["truncated", "changed", "no facts", "other facts"])
def test_a_damaged_file_is_made_again(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, damage: str
) -> None:
    model, where = build(tiny_bert, UPPER), place(tmp_path)
    good = np.array(kept(model, splits, where)[0].hidden)
    path = where.path("train")
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-4])
    elif damage == "changed":
        content[100] ^= 1
        path.write_bytes(content)
    elif damage == "no facts":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text("{}")
    np.testing.assert_array_equal(kept(model, splits, where)[0].hidden, good)


def test_the_limit_is_kept_to(tiny_bert: Path, splits: list[Encoded], tmp_path: Path) -> None:
    notes: list[str] = []
    model = build(tiny_bert, UPPER)
    needed = trunk.num_bytes(splits, 32, torch.float32)
    assert keep(model, splits, place(tmp_path, needed - 1), note=notes.append) is None
    assert "--trunk-cache" in notes[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"locks"}
    kept(model, splits, place(tmp_path, needed, "first"))
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    kept(model, splits, place(tmp_path, 2 * needed, "second"))
    kept(model, splits, place(tmp_path, 2 * needed, "third"))  # the first, unused longest, goes
    left = {path.name.partition("-")[0] for path in tmp_path.glob("*-*")}
    assert left == {"second", "third"}
    assert sum(path.stat().st_size for path in tmp_path.glob("*.hidden")) <= 2 * needed


def test_what_a_killed_process_left_goes_after_a_day(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path
) -> None:
    for name, age in (("old", 90_000), ("fresh", 60)):
        path = tmp_path / f".{name}.hidden.1.part"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    kept(build(tiny_bert, UPPER), splits, place(tmp_path))
    assert [path.name for path in tmp_path.glob(".*")] == [".fresh.hidden.1.part"]


def test_without_a_call_for_it_the_disk_is_taken_by_zeros(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = kept(build(tiny_bert, UPPER), splits, place(tmp_path / "linux"))
    monkeypatch.setattr(trunk, "ZEROS", bytes(1000))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "posix_fallocate")
    found = kept(build(tiny_bert, UPPER), splits, place(tmp_path / "mac"))
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one.hidden, other.hidden)


def test_a_full_disk_means_going_on_without(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    notes: list[str] = []
    assert keep(build(tiny_bert, UPPER), splits, place(tmp_path), note=notes.append) is None
    assert "No space left" in notes[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"locks"}
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", full)  # that of the small file beside the large one
    assert keep(build(tiny_bert, UPPER), splits, place(tmp_path), note=notes.append) is None
    assert "No space left" in notes[1]


def test_another_process_may_make_room_at_the_same_time(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has just deleted a file that was listed."""
    listed = Path.glob
    gone = tmp_path / "gone.hidden"
    monkeypatch.setattr(
        Path, "glob", lambda self, what: [*listed(self, what), *[gone] * (what == "*.hidden")]
    )
    kept(build(tiny_bert, UPPER), splits, place(tmp_path))


def test_one_process_computes_and_others_wait(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has just written the files when its lock is free."""
    monkeypatch.setattr(trunk, "WAIT_SECONDS", 0.01)
    expected = kept(build(tiny_bert, UPPER), splits, place(tmp_path / "other"))
    shutil.copytree(tmp_path / "other", tmp_path / "here", ignore=lambda *_: ["locks"])
    hidden = [
        path.rename(path.with_suffix(".late")) for path in (tmp_path / "here").glob("*.hidden")
    ]
    other, told = ExitStack(), []

    def wait(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 3:
            for path in hidden:
                path.rename(path.with_suffix(".hidden"))
            other.close()

    with other:
        other.enter_context(exclusive(tmp_path / "here" / "locks" / "d"))
        found = keep(build(tiny_bert, UPPER), splits, place(tmp_path / "here"), progress=wait)
    assert told == [(0, 80)] * 3
    assert found is not None
    assert found[1] == 0, "nothing was computed"
    for one, two in zip(expected, found[0], strict=True):
        np.testing.assert_array_equal(one.hidden, two.hidden)


def test_what_others_are_writing_is_never_pushed_over_the_limit(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path
) -> None:
    needed = trunk.num_bytes(splits, 32, torch.float32)
    (tmp_path / ".other.hidden.1.part").write_bytes(bytes(needed))
    where, notes = place(tmp_path, 1.5 * needed), list[str]()
    assert keep(build(tiny_bert, UPPER), splits, where, note=notes.append) is None
    assert "other processes are writing there, to the limit (--trunk-cache)" in notes[0]
    # A damaged file of its own does not count: it is written anew.
    (tmp_path / ".other.hidden.1.part").unlink()
    model = build(tiny_bert, UPPER)
    kept(model, splits, place(tmp_path, needed))
    (tmp_path / "d-train.json").unlink()
    kept(model, splits, place(tmp_path, needed))


def test_what_a_killed_process_left_of_the_same_is_no_other_process(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path
) -> None:
    needed = trunk.num_bytes(splits, 32, torch.float32)
    left = tmp_path / ".d-train.hidden.1-x.part"
    left.write_bytes(bytes(needed))
    kept(build(tiny_bert, UPPER), splits, place(tmp_path, needed))
    assert not left.exists()


def test_where_there_are_no_locks_files_are_kept_all_the_same(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    kept(build(tiny_bert, UPPER), splits, place(tmp_path))
    assert (tmp_path / "d-train.hidden").exists()


def test_stopping_leaves_nothing_behind(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path
) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(build(tiny_bert, UPPER), splits, place(tmp_path), progress=stop)
    assert {path.name for path in tmp_path.iterdir()} <= {"locks"}


def test_a_subset_takes_its_hidden_states_along(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path
) -> None:
    model = build(tiny_bert, UPPER)
    cached = kept(model, splits, place(tmp_path))[0]
    some = cached.subset(np.array([7, 3]))
    plain = replace(some, hidden=None)
    ours, theirs = (evaluate.logits(model, each, CPU) for each in (some, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert cached.hidden is not None
    assert some.hidden is not None
    first = cached.hidden[cached.span(7)]
    np.testing.assert_array_equal(some.hidden[some.span(0)], first)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_memory_it_is_what_a_file_would_hold(
    tiny_bert: Path, splits: list[Encoded], tmp_path: Path, precision: str
) -> None:
    """Of some examples out of order: each has what it has among all, up to other company."""
    model = build(tiny_bert, UPPER, precision=precision)
    chosen = np.array([11, 3, 40, 7])
    found = trunk.in_memory(model, splits[0].subset(chosen), CPU)
    whole = kept(model, splits, place(tmp_path))[0]
    assert found.hidden is not None
    assert whole.hidden is not None
    assert len(found.hidden) == len(found.tokens) == splits[0].lengths[chosen].sum()
    for number, index in enumerate(chosen):
        assert np.array_equal(found.tokens[found.span(number)], whole.tokens[whole.span(index)])
    ours = evaluate.logits(model, found, CPU)
    theirs = evaluate.logits(model, whole, CPU)[chosen]
    np.testing.assert_allclose(ours, theirs, atol=1e-5 if precision == "fp32" else 2e-2)
