"""What tests share: a tiny real BERT, the real GLUE, a tiny GLUE of made-up rows, the command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"word{number}" for number in range(45))
PIECES = tuple(f"##{letter}" for letter in "abcdefghij")


def pytest_configure(config: pytest.Config) -> None:
    """Set what libraries read when they are imported, which no test module has done yet.

    No test may depend on the internet or on what this machine has downloaded before: those that need
    a hub start one of their own (hub_server.py), in a process that knows only that one.
    """
    cache = tempfile.TemporaryDirectory(prefix="adaptertune-tests-")
    config.add_cleanup(cache.cleanup)
    os.environ["HF_HOME"] = cache.name
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["ADAPTERTUNE_CACHE"] = f"{cache.name}/adaptertune"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # The same examples every time, and no deadline: machines are slow when they are busy.
    hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
    hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT, 2 layers of 32 numbers and 64 positions, with its tokenizer."""
    import torch
    from transformers import BertConfig, BertForPreTraining, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = [*SPECIAL, *WORDS, *PIECES]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForPreTraining(shape).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_kind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a kind that is no BERT; see ``kinds.py``."""
    from tests import kinds

    @cache
    def folder(kind: str) -> Path:
        return kinds.make(kind, tmp_path_factory.mktemp(f"tiny-{kind}"))

    return folder


@pytest.fixture(scope="session")
def glue() -> Path:
    """The folder of real GLUE data beside the checkout, to be read and never copied."""
    folder = CHECKOUT.parent / "shared" / "glue"
    if not folder.is_dir():
        pytest.skip(f"real GLUE data is not at {folder}")
    return folder


@pytest.fixture
def tiny_glue(tmp_path: Path) -> Path:
    """A folder in the official GLUE layout: five tasks, made-up rows, all of them ours to spoil.

    Each training set has 16 rows, each development set 8, each test set 4. Every word is in
    ``tiny_bert``'s vocabulary.
    """
    folder = tmp_path / "tiny-glue"
    for path, text in tiny_glue_files().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())
    return folder


def tiny_glue_files() -> dict[str, str]:
    """Path below the GLUE folder -> text, with each task's own columns and oddities."""
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 9)))

    def table(header: str, num_rows: int, row: Callable[[int], Sequence[object]]) -> str:
        lines = [header] if header else []
        lines += ["\t".join(map(str, row(number))) for number in range(num_rows)]
        return "\n".join(lines) + "\n"

    def pairs(header: str, row: Callable[[int], Sequence[object]]) -> dict[str, str]:
        """train.tsv and dev.tsv as told; test.tsv with index and texts, as all but MRPC have it."""
        test = table("index\tsentence1\tsentence2", 4, lambda n: (n, text(), text()))
        return {
            "train.tsv": table(header, 16, row),
            "dev.tsv": table(header, 8, row),
            "test.tsv": test,
        }

    binary = ("entailment", "not_entailment")
    three = (*binary[:1], "neutral", "contradiction")
    rte = pairs("index\tsentence1\tsentence2\tlabel", lambda n: (n, text(), text(), binary[n % 2]))
    stsb = pairs(
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        lambda n: (n, "g", "f", 2012, n, "s", "s", text(), text(), f"{n % 6 * 0.95:.3f}"),
    )
    cola = {  # no header line but in the test set
        "train.tsv": table("", 16, lambda n: ("ab01", n % 2, "*" if n % 2 == 0 else "", text())),
        "dev.tsv": table("", 8, lambda n: ("ab01", n % 2, "", text())),
        "test.tsv": table("index\tsentence", 4, lambda n: (n, text())),
    }
    mrpc_header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"  # with a byte-order mark
    mrpc = {
        "train.tsv": table(mrpc_header, 16, lambda n: (n % 2, n, n, text(), text())),
        "dev.tsv": table(mrpc_header, 8, lambda n: (n % 2, n, n, text(), text())),
        "test.tsv": table(
            mrpc_header.replace("\ufeffQuality", "index"), 4, lambda n: (n, n, n, text(), text())
        ),
    }
    mnli_columns = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse"
    mnli_columns += "\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"
    unused = ("NA",) * 7

    def mnli_row(n: int) -> Sequence[object]:
        return (n, *unused, text(), text(), three[n % 3], three[n % 3])

    mnli = {"train.tsv": table(f"{mnli_columns}\tlabel1\tgold_label", 16, mnli_row)}
    for part in ("matched", "mismatched"):
        mnli[f"dev_{part}.tsv"] = table(f"{mnli_columns}\tlabel1\tgold_label", 8, mnli_row)
        mnli[f"test_{part}.tsv"] = table(mnli_columns, 4, lambda n: mnli_row(n)[:-2])
    folders = {"RTE": rte, "STS-B": stsb, "CoLA": cola, "MRPC": mrpc, "MNLI": mnli}
    return {
        f"{folder}/{name}": text
        for folder, files in folders.items()
        for name, text in files.items()
    }


@dataclass(frozen=True)
class Finished:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Finished]:
    """``cli("train", "--task", "rte")``: the real command line, in this process and in ``tmp_path``."""
    from adaptertune.cli import main

    def run(*arguments: str | Path) -> Finished:
        monkeypatch.setattr(sys, "argv", ["adaptertune", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        written = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Finished(exit_.value.code, written.out, written.err)

    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return run


def as_transformers(encoder: Any) -> Any:
    """transformers' own BERT around an encoder's modules."""
    from transformers import BertModel

    bert = BertModel(encoder.config).eval()
    bert.embeddings, bert.encoder, bert.pooler = encoder.embeddings, encoder.encoder, encoder.pooler
    return bert


def train_tiny(bert: Path, root: Path, task: str, *more: str) -> Path:
    """The folder of a finished cell: two seeds of a tiny model, one epoch of the sample, in fp32."""
    size = () if "--method" in more else ("--size", "8")
    line = ["train", "--task", task, "--offline", "--backbone", str(bert), *size,
            "--seeds", "2", "--epochs", "1", "--max-length", "24", "--lr", "1e-2",
            "--precision", "fp32", "--output", str(root), "--quiet", "--json", *more]  # fmt: skip
    code = "from adaptertune.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *line],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["folder"])
