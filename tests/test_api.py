"""The library: lazily loaded, documented by examples that run, equal to what the commands do."""

from __future__ import annotations

import doctest
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import softmax
from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel
from transformers.utils import logging

import adaptertune as at
from adaptertune import api
from adaptertune.data.sources import SAMPLE, Source, load_splits
from adaptertune.errors import ConfigError, StoreError
from adaptertune.runs import load as runs
from adaptertune.tasks import load
from tests.conftest import train_tiny


def test_the_examples_in_the_documentation_run() -> None:
    for module in (at, api):
        found = doctest.testmod(
            module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
        )
        assert found.attempted
        assert not found.failed


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, adaptertune as at; assert 'count' in dir(at); "
        "heavy = {'torch', 'transformers', 'pydantic'} & set(sys.modules); "
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        at.nothing  # noqa: B018


def trained_names(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_adapters_in_a_model_of_ones_own(tiny_bert: Path) -> None:
    plain = BertForSequenceClassification.from_pretrained(tiny_bert, num_labels=3).eval()
    model = BertForSequenceClassification.from_pretrained(tiny_bert, num_labels=3).eval()
    model.load_state_dict(plain.state_dict())
    state = torch.random.get_rng_state()
    at.insert_adapters(model, size=8, seed=3)
    assert torch.equal(state, torch.random.get_rng_state()), "no global generator is touched"

    assert trained_names(model) == {
        name for name, _ in model.named_parameters()
        if ".adapter." in name or ".LayerNorm." in name or name.startswith("classifier.")
    }  # fmt: skip
    counts = at.count(model)
    adapters, norms, head = 4 * (2 * 8 * 32 + 32 + 8), 5 * 2 * 32, 32 * 3 + 3
    assert counts == at.Counts(
        trained=adapters + norms + head,
        trained_inside=adapters + norms,
        adapters=adapters,
        layer_norms=norms,
        head=head,
        base=sum(p.numel() for p in BertModel.from_pretrained(tiny_bert).parameters()),
    )
    assert counts.share_of_base == (adapters + norms) / counts.base
    model.classifier.requires_grad_(False)
    assert at.count(model).share_of_base == counts.share_of_base
    model.classifier.requires_grad_(True)

    tokens = torch.tensor([[2, 7, 8, 3]])
    with torch.no_grad():
        before, near = plain(tokens).logits, model(tokens).logits
        assert 0 < (before - near).abs().max() < 0.1, "near the identity at first, and not it"
        for name, parameter in model.named_parameters():
            if ".adapter.up." in name:
                parameter.zero_()
        assert torch.equal(model(tokens).logits, before)


def test_chosen_layers_and_no_freezing(tiny_bert: Path) -> None:
    model = BertForMaskedLM.from_pretrained(tiny_bert)
    at.insert_adapters(model, size=4, layers=[1])
    names = {name for name in trained_names(model) if name.startswith("bert.")}
    assert len(names) == 12
    assert all(name.startswith("bert.encoder.layer.1.") for name in names)
    model = BertForMaskedLM.from_pretrained(tiny_bert)
    at.insert_adapters(model, size=4, freeze=False)
    assert trained_names(model) == {name for name, _ in model.named_parameters()}


def test_a_size_of_its_own_for_each_layer(tiny_bert: Path) -> None:
    """What trained in a layer before still does, and what was frozen since stays so."""
    model = BertModel.from_pretrained(tiny_bert)
    at.insert_adapters(model, size=4, layers=[0])
    frozen = model.encoder.layer[0].output.LayerNorm.requires_grad_(False)
    at.insert_adapters(model, size=8, layers=[1])
    adapters = 2 * (2 * 4 * 32 + 32 + 4) + 2 * (2 * 8 * 32 + 32 + 8)
    norms = 3 * 2 * 32
    counts = at.count(model)
    assert (counts.adapters, counts.trained) == (adapters, adapters + norms)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_what_cannot_be_adapted(tiny_bert: Path) -> None:
    model = BertModel.from_pretrained(tiny_bert)
    with pytest.raises(TypeError, match="no BERT, RoBERTa, ELECTRA or DeBERTa-v2 in a Linear"):
        at.insert_adapters(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no activation 'gleu'; choose from gelu, "):
        at.insert_adapters(model, activation="gleu")
    with pytest.raises(ValueError, match="no layer 2; there are 2, from 0"):
        at.insert_adapters(model, layers=[2])
    with pytest.raises(TypeError, match="no BERT, RoBERTa, ELECTRA or DeBERTa-v2 in a object"):
        at.insert_adapters(object())
    for layers in ("9", 9, [0.0], [None]):
        with pytest.raises(ValueError, match="layers must be whole numbers"):
            at.insert_adapters(model, layers=layers)  # type: ignore[arg-type]
    for size in (0, -1, 8.0, "8", True, np.int64(0)):
        with pytest.raises(ValueError, match="size must be a whole number from 1, not "):
            at.insert_adapters(model, size=size)  # type: ignore[arg-type]
    for init_std in (0.0, -1e-2, float("nan"), float("inf"), "x"):
        with pytest.raises(ValueError, match="init_std must be a number above 0, not "):
            at.insert_adapters(model, init_std=init_std)  # type: ignore[arg-type]
    assert at.count(model).adapters == 0
    at.insert_adapters(model, size=np.int64(8), init_std=np.float32(1e-2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 0 has adapters already"):
        at.insert_adapters(model)
    model = BertModel.from_pretrained(tiny_bert)
    at.insert_adapters(model, layers=[1])
    before = at.count(model)
    with pytest.raises(ValueError, match="layer 1 has adapters already"):
        at.insert_adapters(model)
    assert at.count(model) == before, "a refusal changes nothing"


def test_a_run_as_a_pipeline(tiny_bert: Path, tmp_path: Path) -> None:
    """transformers' own forward pass gives the probabilities of the logits that the run wrote."""
    cell = train_tiny(tiny_bert, tmp_path, "rte")
    pipe = at.pipeline(cell, seed=1)
    (split,) = load_splits(load("rte"), Source("sample"), ["validation"])
    assert split.second is not None
    pairs = [
        {"text": first, "text_pair": second}
        for first, second in zip(split.first, split.second, strict=True)
    ]
    answers = pipe(pairs, top_k=None)
    with safe_open(cell / "seed-1" / "logits.safetensors", framework="np") as stream:
        expected = softmax(stream.get_tensor("logits.validation").astype(np.float64), axis=1)
    found = [{one["label"]: one["score"] for one in answer} for answer in answers]
    for number, label in enumerate(("entailment", "not_entailment")):
        np.testing.assert_allclose([one[label] for one in found], expected[:, number], atol=1e-5)
    assert (SAMPLE / "RTE").is_dir()
    with pytest.raises(StoreError, match="no run 'nothing'"):
        at.pipeline("nothing", output=tmp_path)
    with pytest.raises(ConfigError, match="--device: no device 'cuda:99'"):
        at.pipeline(cell, device="cuda:99")
    with pytest.raises(ConfigError, match="has no place for adapters; keep its folder"):
        pipe.save_pretrained(str(tmp_path / "saved"))


def test_other_libraries_speak_afterwards_as_before(tiny_bert: Path, tmp_path: Path) -> None:
    """Silenced for good, transformers would no longer say which of a user's weights are random."""
    cell = train_tiny(tiny_bert, tmp_path, "rte", "--seeds", "1")
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_warning()
        logging.enable_progress_bar()
        at.pipeline(cell)
        assert logging.get_verbosity() == logging.WARNING
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(level)
        if not has_bars:
            logging.disable_progress_bar()


def test_a_model_of_ones_own_is_loaded_again(tiny_bert: Path, tmp_path: Path) -> None:
    """As the docstring says; transformers' own way would leave the adapters out."""
    model, again = (BertForMaskedLM.from_pretrained(tiny_bert) for _ in range(2))
    at.insert_adapters(model, size=8, init_std=0.5)
    model.save_pretrained(tmp_path)
    at.insert_adapters(again, size=8)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)  # a tied decoder
    tokens = torch.arange(5, 12)[None]
    model.eval()
    again.eval()
    assert torch.equal(model(tokens).logits, again(tokens).logits)


def test_a_pipeline_knows_the_texts_of_a_pair_apart(tiny_bert: Path, tmp_path: Path) -> None:
    """Also where the tokenizer's configuration says that the model does not take it."""
    bert = shutil.copytree(tiny_bert, tmp_path / "bert")
    path = bert / "tokenizer_config.json"
    changed = json.loads(path.read_text()) | {"model_input_names": ["input_ids", "attention_mask"]}
    path.write_text(json.dumps(changed))
    cell = train_tiny(bert, tmp_path, "stsb", "--seeds", "1")
    (answer,) = at.pipeline(cell)([{"text": "word1 word2", "text_pair": "word3"}])
    loaded = runs.load(runs.find(str(cell), tmp_path))
    expected = loaded.logits(loaded.encode(["word1 word2"], ["word3"]))
    assert answer["score"] == pytest.approx(expected[0, 0], abs=1e-6)


def test_scores_as_a_pipeline(tiny_bert: Path, tmp_path: Path) -> None:
    cell = train_tiny(tiny_bert, tmp_path, "stsb")
    (split,) = load_splits(load("stsb"), Source("sample"), ["validation"])
    assert split.second is not None
    (answer,) = at.pipeline(cell, seed=0)([{"text": split.first[5], "text_pair": split.second[5]}])
    with safe_open(cell / "seed-0" / "logits.safetensors", framework="np") as stream:
        expected = stream.get_tensor("logits.validation")[5, 0]
    assert answer["label"] == "score"
    assert answer["score"] == pytest.approx(expected, abs=1e-5)


def test_training_by_the_library(tiny_bert: Path, tmp_path: Path) -> None:
    found = at.fine_tune(
        {
            "task": "rte", "backbone": str(tiny_bert), "offline": True, "seeds": [4],
            "method.size": 4, "training.epochs": 1, "training.max_length": 24,
            "output": str(tmp_path),
        }
    )  # fmt: skip
    assert (found.task, found.best_seed) == ("rte", 4)
    assert Path(found.checkpoint or "").is_file()


def test_paths_as_settings(tiny_bert: Path, tiny_glue: Path, tmp_path: Path) -> None:
    """As text they are the same run."""
    rest = {
        "task": "rte", "seeds": [4], "method.size": 4, "training.epochs": 1,
        "training.max_length": 24, "offline": True,
    }  # fmt: skip
    written = {"backbone": tiny_bert, "output": tmp_path / "a", "data": {"folder": tiny_glue}}
    first = at.fine_tune(rest | written)
    assert Path(first.folder).is_relative_to(tmp_path / "a")
    begun = at.fine_tune(
        rest | written | {"training.epochs": 2, "init_from": [Path(first.folder) / "seed-4"]}
    )
    assert begun.init_from is not None
    as_text = {"backbone": str(tiny_bert), "output": str(tmp_path / "b")}
    again = at.fine_tune(rest | as_text | {"data.folder": str(tiny_glue)})
    assert (again.digest, again.scores) == (first.digest, first.scores)


@pytest.mark.parametrize("value", [{3}, b"x", object, np.int64(3), [{"a": {3}}]])
def test_settings_that_no_file_could_hold(value: object) -> None:
    with pytest.raises(
        ConfigError, match=r"training\.epochs: .* is of type \w+; give text, a number"
    ):
        at.fine_tune({"task": "rte", "training.epochs": value})
