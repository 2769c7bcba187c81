"""Tokens that were kept: equal to fresh ones, never out of date, and no harm where they can't be."""

from __future__ import annotations

import hashlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptertune import paths, tasks
from adaptertune.data.batches import collate
from adaptertune.data.cache import Wanted, stored, tokenised
from adaptertune.data.encode import Encoded, encode, load_tokenizer
from adaptertune.data.sources import Source, fingerprint, load_splits
from adaptertune.errors import BackboneError, DataError
from tests.conftest import CHECKOUT

NAMES = ("train", "validation")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, empty at first."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wanted(
    glue: Path, model: Path, task: str = "rte", max_length: int = 8, **changes: object
) -> Wanted:
    loaded = tasks.load(task).model_copy(update=changes)
    source = Source("folder", glue)
    rows = fingerprint(loaded, source, NAMES)
    return Wanted(loaded, source, NAMES, rows, model, max_length, vocabulary=60)


class Heard:
    """What was told while splits were tokenised."""

    def __init__(self) -> None:
        self.progress: list[tuple[int, int]] = []
        self.notes: list[str] = []


def get(asked: Wanted) -> tuple[list[Encoded], Heard]:
    heard = Heard()
    found = tokenised(
        asked,
        progress=lambda done, total: heard.progress.append((done, total)),
        note=heard.notes.append,
    )
    return found, heard


def fresh(asked: Wanted) -> list[Encoded]:
    splits = load_splits(asked.task, asked.source, asked.names)
    return [encode(load_tokenizer(asked.model), split, asked.max_length) for split in splits]


def assert_equal(found: list[Encoded], expected: list[Encoded]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.name, one.num_truncated) == (other.name, other.num_truncated)
        for key in ("tokens", "segments", "starts", "lengths", "labels"):
            a, b = getattr(one, key), getattr(other, key)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("task", ["rte", "cola", "stsb"])
def test_kept_tokens_are_those_that_were_made(
    tiny_glue: Path, tiny_bert: Path, task: str, cache: Path
) -> None:
    asked = wanted(tiny_glue, tiny_bert, task)
    expected = fresh(asked)
    assert stored(asked) is None
    first, heard = get(asked)
    assert_equal(first, expected)
    assert heard.progress == [(16, 24), (24, 24)]
    shutil.rmtree(tiny_glue)  # the rows are not needed any more
    again, heard = get(asked)
    assert_equal(again, expected)
    assert (heard.progress, heard.notes) == ([], [])
    assert expected[0].num_truncated > 0, "this test would be about less"
    assert sorted(path.name for path in (cache / "tokens").iterdir()) == [
        f"{asked.digest}-{name}.tokens" for name in NAMES
    ]


def test_batches_of_kept_tokens(tiny_glue: Path, tiny_bert: Path) -> None:
    """torch warns of arrays that it may not write to, and warnings are errors here."""
    asked = wanted(tiny_glue, tiny_bert)
    made, _ = get(asked)
    kept, _ = get(asked)
    assert not kept[0].tokens.flags.writeable, "a view of the file"
    assert not kept[0].tokens.flags.owndata
    indices = np.array([5, 0, 11])
    one, other = collate(made[0], indices), collate(kept[0], indices)
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.segments, other.segments)
    assert one.labels is not None
    assert other.labels is not None
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(torch.from_numpy(kept[0].labels), torch.from_numpy(made[0].labels))


# ---- what makes them others ----


def test_other_rows_models_lengths_and_readings_have_files_of_their_own(
    tiny_glue: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    base = wanted(tiny_glue, tiny_bert)
    model = shutil.copytree(tiny_bert, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"other weights, same tokenizer")
    moved = shutil.copytree(tiny_glue, tmp_path / "moved")
    for same in (wanted(moved, model), wanted(tiny_glue, tiny_bert, title="Another title")):
        assert same.digest == base.digest
    digests = {
        base.digest,
        wanted(tiny_glue, tiny_bert, max_length=13).digest,
        wanted(tiny_glue, tiny_bert, "mrpc").digest,
        wanted(tiny_glue, tiny_bert, labels=("not_entailment", "entailment")).digest,
        wanted(tiny_glue, tiny_bert, test=("validation",)).digest,
    }
    for file in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        content = (model / file).read_text()
        (model / file).write_text(content.replace("word44", "word99") + " ")
        digests.add(wanted(tiny_glue, model).digest)
    dev = moved / "RTE/dev.tsv"
    dev.write_text(dev.read_text().replace("word1", "word2", 1))
    digests.add(wanted(moved, tiny_bert).digest)
    assert len(digests) == 9


def test_a_row_that_went_bad_is_found(tiny_glue: Path, tiny_bert: Path) -> None:
    get(wanted(tiny_glue, tiny_bert))
    dev = tiny_glue / "RTE/dev.tsv"
    dev.write_text(dev.read_text().replace("\tentailment", "\tmaybe", 1))
    with pytest.raises(DataError, match=r"dev\.tsv:2: unknown label 'maybe'"):
        get(wanted(tiny_glue, tiny_bert))


def test_a_task_that_takes_no_torn_rows_is_not_given_anothers(
    tiny_glue: Path, tiny_bert: Path
) -> None:
    train = tiny_glue / "RTE" / "train.tsv"
    train.write_text(train.read_text() + "99\ta text that ends\n")
    strict = wanted(tiny_glue, tiny_bert)
    files = strict.task.files
    assert files is not None
    get(wanted(tiny_glue, tiny_bert, files=files.model_copy(update={"torn": True})))
    with pytest.raises(DataError, match="a line end inside a text"):
        get(strict)


def test_rows_that_change_while_they_are_read_are_not_kept(
    tiny_glue: Path, tiny_bert: Path, cache: Path
) -> None:
    """Or they would be taken, for ever, for those of the fingerprint."""
    asked = wanted(tiny_glue, tiny_bert)
    train = tiny_glue / "RTE/train.tsv"
    train.write_text(train.read_text().replace("word1", "word2", 1))
    with pytest.raises(DataError, match=r"RTE: the rows have just changed; run the command again"):
        get(asked)
    assert not cache.exists()


# ---- damage ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["empty", "cut", "longer", "flipped", "replaced", "a folder"])
def test_damage_is_noted_and_mended(tiny_glue: Path, tiny_bert: Path, name: str, kind: str) -> None:
    asked = wanted(tiny_glue, tiny_bert)
    expected, _ = get(asked)
    path = asked.path(name)
    content = path.read_bytes()
    if kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        spoilt = {
            "empty": b"", "cut": content[:-1], "longer": content + b"\0", "replaced": b"x" * 999,
            "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        }  # fmt: skip
        path.write_bytes(spoilt[kind])
    assert stored(asked) is None
    again, heard = get(asked)
    assert_equal(again, expected)
    assert "can't be used" in heard.notes[0]
    assert str(path) in heard.notes[0] or kind == "empty"
    if kind != "a folder":
        assert path.read_bytes() == content
        assert get(asked)[1].notes == []


def test_no_bit_may_be_wrong(tiny_glue: Path, tiny_bert: Path) -> None:
    """In the checksum, the names and sizes of the arrays, and the arrays."""
    asked = wanted(tiny_glue, tiny_bert)
    get(asked)
    path = asked.path("validation")
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 7):
        content[at] ^= 4
        path.write_bytes(content)
        assert stored(asked) is None, at
        content[at] ^= 4
        path.write_bytes(content[:at])
        assert stored(asked) is None, at
    path.write_bytes(content)
    assert stored(asked) is not None


# ---- where nothing can be kept ----


def test_a_cache_that_can_not_be_written(
    tiny_glue: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a file, where not even the superuser can make a folder."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "file/cache"))
    asked = wanted(tiny_glue, tiny_bert)
    for _ in range(2):
        found, heard = get(asked)
        assert_equal(found, fresh(asked))
        assert heard.progress[-1] == (24, 24)
        assert "cannot be written (Not a directory)" in heard.notes[-1]
        assert "ADAPTERTUNE_CACHE" in heard.notes[-1]


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """A write beyond that fails, as it does on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_gets_full(tiny_glue: Path, tiny_bert: Path, cache: Path) -> None:
    asked = wanted(tiny_glue, tiny_bert)
    with files_of_at_most(700):
        found, heard = get(asked)
    assert_equal(found, fresh(asked))
    assert "cannot be written (File too large)" in heard.notes[0]
    assert list((cache / "tokens").iterdir()) == []
    assert stored(asked) is None


def test_tokens_that_the_model_lacks_are_told(tiny_glue: Path, tiny_bert: Path) -> None:
    """Those that were kept, too; and not those that no row has."""
    asked = wanted(tiny_glue, tiny_bert)
    largest = max(int(encoded.tokens.max()) for encoded in get(asked)[0])
    assert largest < asked.vocabulary - 1, "the tokenizer has more"
    get(replace(asked, vocabulary=largest + 1))
    complaint = f"has token {largest}, the model {largest} rows .* bring the tokenizer"
    for path in (asked.path(name) for name in NAMES):
        with pytest.raises(BackboneError, match=complaint):
            get(replace(asked, vocabulary=largest))
        path.unlink()


def test_several_at_once(tiny_glue: Path, tiny_bert: Path, cache: Path) -> None:
    asked = wanted(tiny_glue, tiny_bert)
    code = f"""
import sys
from pathlib import Path
from adaptertune import tasks
from adaptertune.data.cache import Wanted, tokenised
from adaptertune.data.sources import Source
asked = Wanted(tasks.load("rte"), Source("folder", Path({str(tiny_glue)!r})), {NAMES!r},
               {asked.fingerprint!r}, Path({str(tiny_bert)!r}), {asked.max_length}, 60)
print("ready", flush=True)
sys.stdin.readline()
for encoded in tokenised(asked, progress=lambda *_: None, note=print):
    print(encoded.tokens.tobytes().hex(), encoded.lengths.tolist(), encoded.labels.tolist())
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = {process.communicate("go\n")[0] for process in processes}
    assert len(answers) == 1
    expected = fresh(asked)
    assert answers.pop().splitlines() == [
        f"{one.tokens.tobytes().hex()} {one.lengths.tolist()} {one.labels.tolist()}"
        for one in expected
        if one.labels is not None
    ]
    kept = stored(asked)
    assert kept is not None
    assert_equal(kept, expected)
    assert len(list((cache / "tokens").iterdir())) == len(NAMES)


# ---- where it is ----


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache() == tmp_path / "cache"
    monkeypatch.delenv("ADAPTERTUNE_CACHE")
    assert paths.cache() == Path("/xdg/adaptertune")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.cache() == tmp_path / ".cache/adaptertune"


def test_a_file_is_a_checksum_and_then_what_safetensors_reads(
    tiny_glue: Path, tiny_bert: Path
) -> None:
    from safetensors.numpy import load

    asked = wanted(tiny_glue, tiny_bert)
    made, _ = get(asked)
    content = asked.path("train").read_bytes()
    assert hashlib.sha256(content[32:]).digest() == content[:32]
    arrays = load(content[32:])
    assert arrays.pop("num_truncated").tolist() == [made[0].num_truncated]
    assert_equal([replace(made[0], **arrays)], made[:1])
