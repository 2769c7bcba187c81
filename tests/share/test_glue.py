"""The submission: names, headers, spellings and counts as the GLUE server has them; whose answers."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file

from adaptertune import tasks
from adaptertune.data.sources import SAMPLE, Source
from adaptertune.errors import ConfigError, DataError, StoreError
from adaptertune.runs import load
from adaptertune.share import glue
from tests.conftest import WORDS, Finished, tiny_glue_files, train_tiny

Cli = Callable[..., Finished]

NLI = {"entailment", "not_entailment"}
THREE = {"entailment", "neutral", "contradiction"}
BITS = {"0", "1"}
# As jiant writes them and the server's test sets count.
EXPECTED: dict[str, tuple[int, set[str] | None]] = {
    "CoLA.tsv": (1063, BITS), "SST-2.tsv": (1821, BITS), "MRPC.tsv": (1725, BITS),
    "STS-B.tsv": (1379, None), "MNLI-m.tsv": (9796, THREE), "MNLI-mm.tsv": (9847, THREE),
    "QNLI.tsv": (5463, NLI), "QQP.tsv": (390965, BITS), "RTE.tsv": (3000, NLI),
    "WNLI.tsv": (146, BITS), "AX.tsv": (1104, THREE),
}  # fmt: skip


def test_the_tasks_files_say_what_the_server_wants() -> None:
    found = {
        entry.file: (entry.num_rows, None if entry.labels is None else set(entry.labels))
        for task in glue.glue_tasks()
        for entry in (glue.Entry(task, split) for split in task.submission)
    }
    assert found == EXPECTED


def pairs(num_rows: int) -> str:
    rows = [f"{n}\t{WORDS[n % 45]} {WORDS[n % 7]}\t{WORDS[n * 3 % 45]}\n" for n in range(num_rows)]
    return "".join(["index\tsentence1\tsentence2\n", *rows])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GLUE of made-up rows: whole test sets for RTE, STS-B, MNLI and the diagnostic set, none for the
    rest.
    """
    root = tmp_path_factory.mktemp("glue")
    files = {path: text for path, text in tiny_glue_files().items() if "test" not in path} | {
        "RTE/test.tsv": pairs(3000), "STS-B/test.tsv": pairs(1379),
        "diagnostic/diagnostic.tsv": pairs(1104),
        "MNLI/test_matched.tsv": pairs(9796), "MNLI/test_mismatched.tsv": pairs(9847),
        "QNLI/dev.tsv": "question\tsentence\tlabel\na\tb\tnot_entailment\n",
        "QQP/dev.tsv": "question1\tquestion2\tis_duplicate\na\tb\t1\nc\td\t0\ne\tf\t1\n",
        "SST-2/dev.tsv": "sentence\tlabel\na\t0\nb\t0\nc\t1\n",
        "WNLI/dev.tsv": "sentence1\tsentence2\tlabel\na\tb\t0\n",
    }  # fmt: skip
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture(scope="module")
def runs(tiny_bert: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs of RTE, STS-B and MNLI on those rows, and one of CoLA on the sample."""
    output = tmp_path_factory.mktemp("runs")
    for task in ("rte", "stsb", "mnli"):
        train_tiny(tiny_bert, output, task, "--data-dir", str(folder))
    train_tiny(tiny_bert, output, "cola")
    return output


@pytest.fixture
def submit(cli: Cli, runs: Path, folder: Path) -> Cli:
    return lambda *more: cli("submit", "--data-dir", folder, "--output", runs, *more)


def read(path: Path) -> dict[str, list[list[str]]]:
    with zipfile.ZipFile(path) as archive:
        return {
            name: [line.split("\t") for line in archive.read(name).decode().splitlines()]
            for name in archive.namelist()
        }


def test_a_submission_end_to_end(
    submit: Cli, cli: Cli, runs: Path, folder: Path, tmp_path: Path
) -> None:
    refused = submit()
    assert refused.code == 2
    assert refused.err.startswith(
        "error: no answers for 6 of 11 files: CoLA.tsv: no run of cola on GLUE; "
    )
    assert "QQP.tsv: no run of qqp on GLUE" in refused.err
    assert not (tmp_path / "submission.zip").exists()

    done = submit("--fill", "--json")
    assert done.code == 0, done.err
    files = read(tmp_path / "submission.zip")
    assert set(files) == set(EXPECTED)
    for name, (num_rows, labels) in EXPECTED.items():
        header, *rows = files[name]
        assert header == ["index", "prediction"]
        assert [row[0] for row in rows] == [str(n) for n in range(num_rows)]
        if labels is not None:
            assert {row[1] for row in rows} <= labels
    by_file = {file["file"]: file for file in json.loads(done.out)["files"]}
    assert {name for name, file in by_file.items() if file["run"] is None} == set(EXPECTED) - {
        "RTE.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv",
    }  # fmt: skip
    for name, label in (("QQP", "1"), ("SST-2", "0"), ("WNLI", "0"), ("QNLI", "not_entailment")):
        assert {row[1] for row in files[f"{name}.tsv"][1:]} == {label}
        assert by_file[f"{name}.tsv"]["filled_with"] == label

    # The answers are those of predict on the same rows: AX by the MNLI run, scores cut to the range.
    for name, task, path in (
        ("RTE", "rte", "RTE/test.tsv"), ("STS-B", "stsb", "STS-B/test.tsv"),
        ("AX", "mnli", "diagnostic/diagnostic.tsv"),
    ):  # fmt: skip
        assert Path(by_file[f"{name}.tsv"]["run"]).parent.parent.name == task
        (run,) = (runs / task).iterdir()
        answered = cli("predict", run, "--input", folder / path, "--to", "answers.jsonl")
        assert answered.code == 0, answered.err
        lines = Path("answers.jsonl").read_text().splitlines()
        predictions = [json.loads(line)["prediction"] for line in lines]
        given = [row[1] for row in files[f"{name}.tsv"][1:]]
        if task == "stsb":
            assert given == [f"{min(max(score, 0), 5):.3f}" for score in predictions]
        else:
            assert given == predictions

    first = (tmp_path / "submission.zip").read_bytes()
    assert submit("--fill", "--quiet").code == 0
    assert (tmp_path / "submission.zip").read_bytes() == first


REFUSED: dict[str, tuple[Callable[[str], str] | None, str]] = {
    # name: what becomes of RTE's test file, the complaint
    "missing": (None, r": no such file; split 'test' of 'rte' needs it"),
    "damaged": (lambda _: "index\tsentence1\tsentence2\n0\ta\t\n", r":2: the text in column 3 is empty"),
    "short": (
        lambda _: pairs(2999),
        ": 2,999 rows where GLUE's test set has 3,000; get GLUE's own file: its server takes whole",
    ),
    "an index twice": (
        lambda text: text.replace("\n7\t", "\n6\t"), ":9: index 6 is that of line 8 too; get GLUE's own",
    ),
    "an index beyond": (
        lambda text: text.replace("\n7\t", "\n3000\t"), ": no row has index 7; get GLUE's own file",
    ),
}  # fmt: skip


def test_of_runs_on_two_base_models_the_lost_one_is_named(
    cli: Cli, tiny_bert: Path, folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["bert.pooler.dense.bias"][0] = 0.5  # another model
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    for task, model in (("rte", base), ("stsb", tiny_bert)):
        train_tiny(model, tmp_path / "runs", task, "--data-dir", str(folder))
    moved = base.rename(tmp_path / "moved")
    line = ("submit", "--data-dir", folder, "--fill", "--offline")
    lost = cli(*line)
    assert lost.code == 2
    assert f"error: base model {base}: no such folder; bring it back, or name its" in lost.err
    done = cli(*line, "--backbone", moved)
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", REFUSED)
def test_a_test_set_that_a_run_cannot_answer_is_refused_even_with_fill(
    submit: Cli, folder: Path, tmp_path: Path, name: str
) -> None:
    """No baseline takes a run's place. It is told before a model is loaded."""
    change, complaint = REFUSED[name]
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "RTE/test.tsv"
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    done = submit("--data-dir", other, "--fill")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {path}{complaint}")


def test_the_index_is_the_test_files_own(folder: Path, runs: Path, tmp_path: Path) -> None:
    """The same rows in another order, with their indices, give the same file."""
    (task,) = (task for task in glue.glue_tasks() if task.name == "stsb")
    entry = glue.Entry(task, "test", glue.choose_runs([], runs)["stsb"])
    assert entry.run is not None
    loaded = load.load(entry.run)
    with torch.no_grad():  # so tiny a model says nearly the same of all rows
        loaded.model.head.weight.mul_(100)
    other = shutil.copytree(folder, tmp_path / "other")
    header, *lines = (other / "STS-B/test.tsv").read_text().splitlines(keepends=True)
    (other / "STS-B/test.tsv").write_text("".join([header, *reversed(lines)]))
    one, same = (
        [float(t) for t in glue._answers(entry, loaded, Source("folder", place), lambda *_: None)]
        for place in (folder, other)
    )
    assert same == pytest.approx(one, abs=1.5e-3)  # the last decimal
    assert same[::-1] != pytest.approx(one, abs=1.5e-3)  # the last decimal


def test_the_sample_is_not_glue(submit: Cli, cli: Cli, runs: Path, tmp_path: Path) -> None:
    done = submit("--data-dir", SAMPLE, "--fill")
    assert done.code == 2
    assert done.err.startswith(
        f"error: {SAMPLE}: the sample is generated text, not GLUE; give --data"
    )
    (cola,) = (runs / "cola").iterdir()
    shutil.copytree(cola, tmp_path / "store" / "cola" / cola.name)
    done = cli("submit", "--output", "store", "--fill")
    assert done.code == 2
    assert done.err.startswith(
        "error: store: no finished run of a task of GLUE: those there (1) were trained on the sample, "
        "which is not GLUE; train on GLUE"
    )
    done = cli("submit", "--output", "nothing")
    assert done.err.startswith("error: nothing: no finished run of a task of GLUE; train on GLUE")


def test_an_unwritable_zip_is_told_before_the_answers(
    submit: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    done = submit("--fill", "--to", "/proc/x.zip")
    assert done.code == 2
    assert done.err.startswith("error: /proc/x.zip: cannot be written")


def test_runs_that_are_named(submit: Cli, runs: Path) -> None:
    (cola,) = (runs / "cola").iterdir()
    with pytest.raises(StoreError, match="trained on the sample"):
        glue.choose_runs([str(cola)], runs)
    (rte,) = (runs / "rte").iterdir()
    with pytest.raises(ConfigError, match="two runs of 'rte'"):
        glue.choose_runs([str(rte), str(rte / "seed-0")], runs)
    chosen = glue.choose_runs([str(rte / "seed-1")], runs)
    assert sorted(chosen) == ["mnli", "rte", "stsb"]
    assert chosen["rte"].result.seed == 1


def test_the_best_run_of_a_task_is_taken(
    tiny_bert: Path, folder: Path, runs: Path, tmp_path: Path
) -> None:
    """Two cells of RTE whose results are made to differ: the one with the higher score."""
    (rte,) = (runs / "rte").iterdir()
    for score, name in ((0.25, "low"), (0.75, "high"), (0.5, "middle")):
        copy = shutil.copytree(rte, tmp_path / "rte" / name)
        for path in copy.glob("seed-*/result.json"):
            content = json.loads(path.read_text())
            content["scores"]["validation"]["values"]["accuracy"] = score
            path.write_text(json.dumps(content))
    assert glue.choose_runs([], tmp_path)["rte"].cell.path.name == "high"
    # What counts is validation, whatever split chose the epoch; and a model that is there.
    for path in (tmp_path / "rte" / "low").glob("seed-*/result.json"):
        content = json.loads(path.read_text())
        content["scores"]["held-out"] = content["scores"]["validation"] | {
            "values": {"accuracy": 0.99}
        }
        path.write_text(json.dumps(content | {"selecting_split": "held-out"}))
    assert glue.choose_runs([], tmp_path)["rte"].cell.path.name == "high"
    for path in (tmp_path / "rte" / "high").glob("**/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": None}))
    assert glue.choose_runs([], tmp_path)["rte"].cell.path.name == "middle"


SPOILT: dict[str, tuple[str, int, str | None, str]] = {
    # name: a file, its line (from 0), what that is replaced by, the complaint
    "a row is missing": ("WNLI.tsv", 9, None, r"WNLI\.tsv: 145 rows where the test set has 146"),
    "an index": ("WNLI.tsv", 3, "7\t0", r"WNLI\.tsv:4: '7\\t0' is no answer"),
    "a label": ("RTE.tsv", 1, "0\tyes", r"RTE\.tsv:2: '0\\tyes' is no answer"),
    "the header": ("RTE.tsv", 0, "id\tx", r"RTE\.tsv:1: the header is 'id\\tx'"),
    "a score's decimals": ("STS-B.tsv", 1, "0\t1.0", r"STS-B\.tsv:2"),
    "a high score": ("STS-B.tsv", 1, "0\t5.001", r"STS-B\.tsv:2"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_the_check_finds_what_is_wrong(name: str) -> None:
    planned = [glue.Entry(task, split) for task in glue.glue_tasks() for split in task.submission]
    files = {
        entry.file: ["index\tprediction"]
        + [f"{n}\t{entry.labels[0] if entry.labels else '2.500'}" for n in range(entry.num_rows)]
        for entry in planned
    }

    def packed() -> io.BytesIO:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for file, rows in files.items():
                archive.writestr(file, "\n".join(rows) + "\n")
        return content

    glue.check(packed(), planned)
    file, at, line, complaint = SPOILT[name]
    files[file][at : at + 1] = [] if line is None else [line]
    with pytest.raises(DataError, match=complaint):
        glue.check(packed(), planned)
    del files["AX.tsv"]
    with pytest.raises(DataError, match=r"not the eleven of GLUE: AX\.tsv"):
        glue.check(packed(), planned)


def test_every_submission_split_is_a_test_split() -> None:
    for task in glue.glue_tasks():
        assert set(task.submission) == set(task.test)
        assert task == tasks.load(task.name)
