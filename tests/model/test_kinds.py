"""Encoders besides BERT, each against transformers' own model: forward, gradients, places, counts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel

from adaptertune import config
from adaptertune.errors import BackboneError
from adaptertune.model import backbone, forward, fused
from adaptertune.model.dropout import Dropout
from adaptertune.model.inject import adapted_outputs
from tests.classifiers import build
from tests.kinds import KINDS

Folder = Callable[[str], Path]
ADAPTER = config.Adapter(size=8, init_std=0.2, activation="gelu")
IDENTITY = config.Adapter(size=8, init_std=1e-9, activation="gelu")
METHODS: list[config.Method] = [
    ADAPTER,
    ADAPTER.model_copy(update={"layers": (1,)}),
    config.TopLayers(k=1),
    config.LayerNorm(),
    config.BitFit(),
    config.Full(),
]
# Where the two places are: the module whose output an adapter takes, of a layer.
PLACES = {
    "roberta": ("encoder.layer.{}.attention.output.dropout", "encoder.layer.{}.output.dropout"),
    "electra": ("encoder.layer.{}.attention.output.dropout", "encoder.layer.{}.output.dropout"),
    "distilbert": ("transformer.layer.{}.attention.out_lin", "transformer.layer.{}.ffn.dropout"),
    "deberta-v2": ("encoder.layer.{}.attention.output.dropout", "encoder.layer.{}.output.dropout"),
}


def batch(kind: str, *, padded: bool, length: int = 23) -> tuple[Any, Any, Any]:
    """Numbers of tokens, none of them that of padding but where padding is."""
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(5, 50, (3, length), generator=generator)
    segments = (torch.arange(length) > 5).long().expand(3, length).clone()
    if not padded:
        return tokens, segments, None
    mask = torch.arange(length) < torch.tensor([[length], [length - 3], [4]])
    return torch.where(mask, tokens, 1 if kind == "roberta" else 0), segments, mask


def theirs(folder: Path, kind: str, tokens: Any, segments: Any, mask: Any) -> tuple[Any, Any]:
    """transformers' model, and what it gives for the first token; with gradients."""
    model: Any = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return model, first_state(model, kind, tokens, segments, mask)


def first_state(model: Any, kind: str, tokens: Any, segments: Any, mask: Any) -> Any:
    given = {"token_type_ids": segments} if kind == "electra" else {}
    mask = torch.ones_like(tokens) if mask is None else mask.long()
    return model(tokens, attention_mask=mask, **given).last_hidden_state[:, 0]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers_with_adapters_at_the_identity(
    tiny_kind: Folder, kind: str, padded: bool
) -> None:
    given = batch(kind, padded=padded)
    _, expected = theirs(tiny_kind(kind), kind, *given)
    model = build(tiny_kind(kind), IDENTITY)
    torch.testing.assert_close(model(*given), model.head(expected), atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1
    whole = forward.trunk(
        [model.backbone], *given, torch.float32, None, 2, compiled=False
    )  # every position of the last layer too
    assert whole.shape == (3, 23, 32)
    torch.testing.assert_close(whole[:, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_at_the_two_places(tiny_kind: Folder, kind: str) -> None:
    """Hooks in transformers' own model add what the paper's formula says."""
    given = batch(kind, padded=True)
    model = build(tiny_kind(kind), ADAPTER)
    plain, without = theirs(tiny_kind(kind), kind, *given)
    modules = dict(plain.named_modules())
    adapters = [block.adapter for _, block in adapted_outputs(model.backbone)]
    assert len(adapters) == 4

    def hook(adapter: Any) -> Any:
        down, up = adapter.down, adapter.up

        def add(_: nn.Module, __: Any, x: torch.Tensor) -> torch.Tensor:
            inner = functional.gelu(functional.linear(x, down.weight, down.bias))
            return x + functional.linear(inner, up.weight, up.bias)

        return add

    places = [place.format(layer) for layer in range(2) for place in PLACES[kind]]
    for place, adapter in zip(places, adapters, strict=True):
        modules[place].register_forward_hook(hook(adapter))
    expected = model.head(first_state(plain, kind, *given))
    torch.testing.assert_close(model(*given), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected, model.head(without), atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_transformers(tiny_kind: Folder, kind: str) -> None:
    """Of full fine-tuning: every parameter of the encoder, by value, whatever it is called."""
    given = batch(kind, padded=True)
    model = build(tiny_kind(kind), config.Full())
    plain, expected = theirs(tiny_kind(kind), kind, *given)
    weights = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    (model(*given) * weights).sum().backward()
    ((expected @ model.head.weight.detach().T) * weights).sum().backward()
    values = {name: p for name, p in plain.named_parameters() if not name.startswith("pooler.")}
    ours = dict(model.backbone.named_parameters())
    assert len(ours) == len(values)
    for name, parameter in values.items():
        (same,) = (p for p in ours.values() if torch.equal(p.data, parameter.data))
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        assert same.grad is not None, name
        torch.testing.assert_close(same.grad, parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'layers', '')}")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_where_something_trains(
    tiny_kind: Folder, kind: str, method: config.Method
) -> None:
    model = build(tiny_kind(kind), method)
    model(*batch(kind, padded=True), Dropout(3, torch.device("cpu"))).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    depth = {"top_layers": 1, "adapter": 1 if getattr(method, "layers", None) else 0}
    assert model.trunk_depth == depth.get(method.name, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_known_trunk_gives_the_same(tiny_kind: Folder, kind: str) -> None:
    model = build(tiny_kind(kind), ADAPTER.model_copy(update={"layers": (1,)}))
    given = batch(kind, padded=True)
    hidden = model.trunk(*given)
    assert torch.equal(model(*given, hidden=hidden), model(*given))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_length_change_nothing(tiny_kind: Folder, kind: str) -> None:
    model = build(tiny_kind(kind), ADAPTER)
    tokens, segments, mask = batch(kind, padded=True, length=40)
    alone = model(tokens[2:, :4], segments[2:, :4], None)
    torch.testing.assert_close(alone, model(tokens, segments, mask)[2:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_close(tiny_kind: Folder, kind: str) -> None:
    given = batch(kind, padded=True)
    model = build(tiny_kind(kind), ADAPTER, precision="bf16")
    frozen = [p for name, p in model.named_parameters() if "LayerNorm" not in name]
    assert all((p.dtype == torch.bfloat16) != p.requires_grad for p in frozen)
    exact = build(tiny_kind(kind), ADAPTER)(*given)
    torch.testing.assert_close(model(*given), exact, atol=0.1, rtol=0.1)


def test_all_but_deberta_take_the_fused_pass(tiny_kind: Folder) -> None:
    for kind in KINDS:
        encoder = build(tiny_kind(kind), ADAPTER).backbone
        assert forward.has_fused_layer(encoder, 0) == (kind != "deberta-v2")


@pytest.mark.parametrize("kind", KINDS)
def test_fused_and_generic_pass_agree(
    tiny_kind: Folder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batch(kind, padded=True)
    found = []
    for is_fused in (True, False):
        monkeypatch.setattr(fused, "is_supported", lambda _, is_fused=is_fused: is_fused)
        model = build(tiny_kind(kind), ADAPTER)
        logits = model(*given, Dropout(7, torch.device("cpu")))
        logits.sum().backward()
        found.append([logits, *(p.grad for p in model.parameters() if p.requires_grad)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_several_models_in_one_pass(tiny_kind: Folder, kind: str) -> None:
    """Adapters and LayerNorms of their own, those of relative positions among them."""
    from adaptertune.model.classifier import logits

    models = [build(tiny_kind(kind), ADAPTER) for _ in range(2)]
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for parameter in models[1].parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    given = batch(kind, padded=True)
    tokens, segments, mask = (torch.cat([part, part]) for part in given)
    joint = logits(models, tokens, segments, mask)
    for model, found in zip(models, joint, strict=True):
        torch.testing.assert_close(found, model(*given), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(joint[0], joint[1], atol=1e-2)


def test_deberta_shares_rows_between_large_distances(tiny_kind: Folder) -> None:
    positions = build(tiny_kind("deberta-v2"), ADAPTER).backbone.embeddings.relative
    rows, index = positions.rows(60, torch.device("cpu"))
    assert (rows.start, rows.stop) == (1, 32)
    # Sixteen buckets each way: distances 0 to 8 have their own, the others share by the logarithm.
    assert (index[0] + rows.start).tolist()[:13] == [16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 7, 6, 6]
    assert (index[:, 0] + rows.start).tolist()[:6] == [16, 17, 18, 19, 20, 21]


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_can_be_removed(tiny_kind: Folder, kind: str) -> None:
    from adaptertune.model.inject import adapters_removed
    from adaptertune.model.removal import Removal, logits

    model = build(tiny_kind(kind), ADAPTER)
    given = batch(kind, padded=True)
    choices = [Removal(), Removal({0}), Removal({1}), Removal({0, 1})]
    with torch.inference_mode():
        found = logits(model, choices, *given)
        for choice, one in zip(choices, found, strict=True):
            with adapters_removed(model.backbone, choice):
                torch.testing.assert_close(one, model(*given), atol=1e-5, rtol=1e-5)
    _, expected = theirs(tiny_kind(kind), kind, *given)
    torch.testing.assert_close(found[3], model.head(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_layers_are_the_layers(
    tiny_kind: Folder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured whole, for two lengths by the same graphs; the captured graphs run as they are."""
    make = forward.compiled_layer
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(forward, "compiled_layer", lambda: make("eager"))
    plain, model = build(tiny_kind(kind), ADAPTER), build(tiny_kind(kind), ADAPTER)
    model.is_compiled = True
    graphs = []
    for length in (23, 29, 31):
        given = batch(kind, padded=True, length=length)
        expected, found = plain(*given), model(*given)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        found.sum().backward()
        graphs.append(int(torch._dynamo.utils.counters["stats"]["unique_graphs"]))
    assert 0 < graphs[0] <= graphs[1] == graphs[2] <= 4
    torch._dynamo.reset()
    make.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_evaluation_found_serves_a_training(tiny_kind: Folder, kind: str) -> None:
    """A run that goes on begins with an evaluation; no other test has this length."""
    model, given = build(tiny_kind(kind), ADAPTER), batch(kind, padded=False, length=37)
    with torch.inference_mode():
        model(*given)
    model(*given).sum().backward()
    assert model.head.weight.grad is not None


# ---- what is not supported ----


@pytest.mark.parametrize(
    ("kind", "changed", "problem"),
    [
        (
            "roberta",
            {"model_type": "modernbert"},
            r"'modernbert' model has no LayerNorm behind its",
        ),
        ("roberta", {"model_type": "t5"}, r"a 't5' model is not supported; choose a BERT, RoBERTa"),
        ("roberta", {"model_type": None}, r"a 'None' model is not supported"),
        ("roberta", {"is_decoder": True}, r"a decoder, whose words see only earlier ones, is not"),
        ("roberta", {"model_type": ["bert"]}, r"is not supported"),
        ("roberta", {"pad_token_id": "x"}, r"a size is not a number"),
        ("roberta", {"max_position_embeddings": "66"}, r"a size is not a number"),
        ("roberta", {"max_position_embeddings": 1}, r"the positions can't be -1"),
        (
            "roberta",
            {"position_embedding_type": "relative_key"},
            r"type 'relative_key' is not supp",
        ),
        (
            "electra",
            {"position_embedding_type": "relative_key_query"},
            r"a 'electra' model with pos",
        ),
        ("distilbert", {"position_embedding_type": None}, r"position_embedding_type None is not"),
        ("electra", {"embedding_size": 0}, r"the embedding can't be 0"),
        ("distilbert", {"dim": "32"}, r"the width can't be '32'"),
        ("deberta-v2", {"conv_kernel_size": 3}, r"conv_kernel_size 3 instead of 0 is not supp"),
        ("deberta-v2", {"share_att_key": False}, r"share_att_key False instead of True"),
        ("deberta-v2", {"pos_att_type": ["c2p"]}, r"pos_att_type \['c2p'\] is not supported"),
        ("deberta-v2", {"pos_att_type": 5}, r"a size is not a number"),
        ("deberta-v2", {"position_buckets": -1}, r"a DeBERTa without position_buckets"),
        ("deberta-v2", {"embedding_size": 16}, r"embedding_size 16 instead of 32"),
    ],
)
def test_what_is_not_supported(
    tiny_kind: Folder, tmp_path: Path, kind: str, changed: dict[str, Any], problem: str
) -> None:
    folder = shutil.copytree(tiny_kind(kind), tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(BackboneError, match=rf"config\.json: .*{problem}") as error:
        backbone.locate(str(folder), offline=True)
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_refused(tiny_kind: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_kind("electra"), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["electra.embeddings_project.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"1 parameters are not in .* embeddings_project"):
        backbone.load(backbone.locate(str(folder), offline=True))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_layers_that_are_not_configured_are_refused(
    tiny_kind: Folder, kind: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_kind(kind), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors") | {"cls.predictions.bias": torch.zeros(3)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    backbone.load(backbone.locate(str(folder), offline=True))  # a head of pre-training
    layer = next(name for name in tensors if ".layer.1." in name)
    for odd in (layer.replace(".1.", ".7."), f"{layer}.distances"):
        save_file(tensors | {odd: torch.zeros(3)}, folder / "model.safetensors", {"format": "pt"})
        complaint = rf"1 parameters of layers have no place in .*{re.escape(odd)} for one"
        with pytest.raises(BackboneError, match=complaint):
            backbone.load(backbone.locate(str(folder), offline=True))
