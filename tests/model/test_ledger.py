"""Parameter counts: the paper's own numbers, and a real BERT's parameters counted one by one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel

from adaptertune import catalogue, config
from adaptertune.catalogue import Shape
from adaptertune.errors import ConfigError
from adaptertune.model import backbone, ledger
from adaptertune.model.build import load_model
from adaptertune.model.ledger import Ledger, Part, count, sizes_between
from tests.kinds import KINDS

BASE, LARGE, MINILM = "google-bert/bert-base-uncased", "google-bert/bert-large-uncased", "minilm"


def shape(name: str) -> Shape:
    return catalogue.known_backbones()[name].shape


def adapter(size: int, **others: Any) -> config.Adapter:
    keys = {"size": size, "init_std": 1e-2, "activation": "gelu"} | others
    return config.Adapter.model_validate(keys)


def part(counts: Ledger, name: str) -> tuple[int, int]:
    """Total and trained parameters of one kind; (0, 0) where there are none."""
    found = {each.name: (each.total, each.trained) for each in counts.parts}
    return found.get(name, (0, 0))


# ---- the paper's arithmetic ----


@pytest.mark.parametrize(
    ("name", "size", "adapters"),
    [
        (BASE, 8, 313_536), (BASE, 64, 2_379_264), (BASE, 256, 9_461_760),
        (LARGE, 8, 835_968), (LARGE, 64, 6_343_680), (LARGE, 256, 25_227_264),
        (MINILM, 64, 595_200),
    ],
)  # fmt: skip
def test_adapter_parameters(name: str, size: int, adapters: int) -> None:
    assert part(count(shape(name), adapter(size), 2), "adapters") == (adapters, adapters)


@pytest.mark.parametrize(
    ("name", "norms", "everything", "encoder"),
    [
        (BASE, 38_400, "109.48M", "85.05M"),
        (LARGE, 100_352, "335.14M", "302.31M"),
        (MINILM, 9_984, "22.71M", "10.65M"),
    ],
)
def test_norms_and_denominators(name: str, norms: int, everything: str, encoder: str) -> None:
    counts = count(shape(name), config.LayerNorm(), 2)
    assert part(counts, "LayerNorms") == (norms, norms)
    assert counts.trained == norms
    assert f"{counts.all_parameters / 1e6:.2f}M" == everything
    assert f"{counts.encoder_layers / 1e6:.2f}M" == encoder


def test_bert_large_with_64_is_the_papers_2_per_cent_and_1_2_times() -> None:
    counts = count(shape(LARGE), adapter(64), 2)
    assert counts.trained == 6_444_032 == 6_343_680 + 100_352
    assert f"{counts.share_of_encoder:.2%}" == "2.13%"
    assert f"{counts.share_of_all:.2%}" == "1.92%"
    assert f"{counts.multiple(9):.2f}" == "1.19"  # the paper: 1.2x
    assert counts.multiple(9) == pytest.approx(1 + 9 * 6_444_032 / 302_309_376)
    assert f"{counts.multiple(9, of='all_parameters'):.2f}" == "1.17"
    full = count(shape(LARGE), config.Full(), 2)
    assert full.multiple(9) == full.multiple(9, of="all_parameters") == 9
    assert full.share_of_all == 1
    assert full.trained == full.all_parameters


def test_sizes_8_to_256_are_the_papers_3_6_per_cent() -> None:
    """The best size per task is mostly 256 in the paper's table: 3.6 % is a mean over the tasks."""
    shares = [count(shape(LARGE), adapter(size), 2).share_of_encoder for size in (8, 64, 256)]
    assert [f"{share:.2%}" for share in shares] == ["0.31%", "2.13%", "8.38%"]
    assert shares[0] < 0.036 < shares[2]
    assert f"{1 + 9 * 0.036:.1f} {1 + 9 * 0.021:.1f}" == "1.3 1.2"


def test_17_tasks_of_1_14_per_cent_are_the_papers_1_19_times() -> None:
    parts = (Part("adapters", 114, 114), Part("head", 5, 5))
    counts = Ledger("adapter", parts, encoder_layers=10_000, all_parameters=12_000)
    assert counts.share_of_encoder == 0.0114
    assert counts.multiple(17) == pytest.approx(1 + 17 * 0.0114)
    assert f"{counts.multiple(17):.2f}" == "1.19"
    assert counts.multiple(17, of="all_parameters") == pytest.approx(1 + 17 * 0.0095)


def test_a_model_of_30_billion_parameters() -> None:
    """0.5 % to 8 %, 0.15 to 2.4 billion: which sizes of a 48-layer, 7168-wide Transformer are that."""
    big = catalogue.parse_shape("48,7168")
    counts = count(big, adapter(64), 2)
    assert counts.encoder_layers == 48 * (12 * 7168**2 + 13 * 7168) == 29_599_481_856
    low, high = 0.5 / 100, 8 / 100
    assert 0.147e9 < low * counts.encoder_layers < 0.15e9
    assert 2.36e9 < high * counts.encoder_layers < 2.4e9
    # 96 adapters of 14,337 m + 7,168 and 97 LayerNorms of 14,336: 1,376,352 m + 2,078,720
    assert count(big, adapter(100), 2).trained == 1_376_352 * 100 + 2_078_720
    found = sizes_between(big, adapter(64), low, high)
    assert found is not None
    smallest, largest = found
    assert (smallest, largest) == (107, 1718)
    for size, inside in (
        (smallest - 1, False),
        (smallest, True),
        (largest, True),
        (largest + 1, False),
    ):
        trained = count(big, adapter(size), 2).trained
        assert (low <= trained / counts.encoder_layers <= high) == inside
        per_layer = 2 * (2 * size * 7168 + 7168 + size)
        assert trained == 48 * per_layer + (2 * 48 + 1) * 2 * 7168


# What others publish of the plain encoders; ELECTRA's with a pooler that the model does not have.
PUBLISHED = {
    "roberta-base": 124_052_736 + 3 * 768,  # theirs is without two rows of positions and the type
    "roberta-large": 354_307_072 + 3 * 1024,
    "distilbert-base-uncased": 66_362_880,
    "distilbert-base-cased": 65_190_912,
    "electra-small": 13_548_800 - 256 * 257,
    "deberta-v3-xsmall": 70_682_112,
    "deberta-v3-small": 141_304_320,
    "deberta-v3-base": 183_831_552,
    "deberta-v3-large": 434_012_160,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_other_encoders_have_as_many_parameters_as_is_published(name: str) -> None:
    known = catalogue.known(name)
    assert known is not None
    counts = count(known.shape, config.Full(), 2)
    assert counts.all_parameters == counts.trained == PUBLISHED[name]
    assert not any(part.name == "pooler" for part in counts.parts)


# ---- against a real model ----


class Bottleneck(nn.Module):
    """An adapter as the paper draws it; this test's own."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)


def counted(form: Shape, method: config.Method, num_outputs: int) -> dict[str, int]:
    """Parameters of a transformers BertModel without values, by what the methods' papers say."""
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        model: Any = BertModel(
            BertConfig(
                vocab_size=form.vocabulary,
                hidden_size=form.width,
                num_hidden_layers=form.layers,
                num_attention_heads=form.heads or 1,
                intermediate_size=form.intermediate,
                max_position_embeddings=form.positions,
                type_vocab_size=form.types,
            )
        )
        plain = {name: p.numel() for name, p in model.named_parameters()}
        for index, layer in enumerate(model.encoder.layer):
            chosen = isinstance(method, config.Adapter) and index in (
                range(form.layers) if method.layers is None else method.layers
            )
            for place in (layer.attention.output, layer.output) if chosen else ():
                assert isinstance(method, config.Adapter)
                place.adapter = Bottleneck(form.width, method.size)
        head = nn.Linear(form.width, num_outputs)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    heads = {f"head.{name}": p.numel() for name, p in head.named_parameters()}

    def trains(name: str) -> bool:
        if isinstance(method, config.Adapter):
            chosen = range(form.layers) if method.layers is None else method.layers
            above = any(f"layer.{index}." in name for index in chosen)
            if "pooler" in name:
                return method.pooler == "trained"
            norms = (above or method.layers is None) and method.layernorms != "none"
            return ".adapter." in name or ("LayerNorm" in name and norms)
        if isinstance(method, config.TopLayers):
            top = range(form.layers - method.k, form.layers)
            return name.startswith("pooler") or any(f"layer.{index}." in name for index in top)
        if isinstance(method, config.LayerNorm):
            return "LayerNorm" in name
        if isinstance(method, config.BitFit):
            return name.endswith("bias")
        assert isinstance(method, config.Full)
        return method.pooler == "trained" or not name.startswith("pooler")

    return {
        "all": sum(plain.values()),
        "encoder": sum(n for name, n in plain.items() if name.startswith("encoder.")),
        "total": sum(sizes.values()) + sum(heads.values()),
        "trained": sum(n for name, n in sizes.items() if trains(name)),
        "head": sum(heads.values()),
    }


METHODS: list[config.Method] = [
    adapter(8),
    adapter(64, layers=(1,)),
    adapter(8, layernorms="none", pooler="trained"),
    config.Full(),
    config.Full(pooler="frozen"),
    config.TopLayers(k=1),
    config.TopLayers(k=2),
    config.LayerNorm(),
    config.BitFit(),
]
FORMS = {
    "bert-base": shape(BASE),
    "bert-large": shape(LARGE),
    "minilm": shape(MINILM),
    "odd": Shape(
        layers=3, width=24, heads=3, intermediate=70, vocabulary=101, positions=33, types=3
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'k', '')}")
def test_closed_form_equals_counting_a_real_bert(form: str, method: config.Method) -> None:
    for num_outputs in (1, 3):
        counts = count(FORMS[form], method, num_outputs)
        expected = counted(FORMS[form], method, num_outputs)
        assert counts.all_parameters == expected["all"]
        assert counts.encoder_layers == expected["encoder"]
        assert counts.total == expected["total"]
        assert counts.trained == expected["trained"]
        assert counts.head == expected["head"]
        assert counts.stored == expected["trained"] + expected["head"]


CHOOSE_POOLER: list[tuple[config.Method, str]] = [
    (adapter(8, pooler="trained"), "no pooler to train"),
    (config.Full(pooler="frozen"), "no pooler to freeze"),
]
WITHOUT_POOLER = [method for method in METHODS if "pooler" not in method.model_fields_set]


@pytest.mark.parametrize(("method", "message"), CHOOSE_POOLER, ids=["adapter", "full"])
def test_no_choice_of_a_pooler_where_there_is_none(
    tiny_kind: Callable[[str], Path], method: config.Method, message: str
) -> None:
    located = backbone.locate(str(tiny_kind("electra")), offline=True)
    with pytest.raises(ConfigError, match=message):
        count(located.shape, method, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "method", [*WITHOUT_POOLER, config.LoRA(rank=3, alpha=3.0), config.IA3()],
    ids=lambda m: f"{m.name}-{getattr(m, 'k', '')}",
)  # fmt: skip
def test_other_encoders_are_counted_as_they_are(
    tiny_kind: Callable[[str], Path], kind: str, method: config.Method
) -> None:
    """The plain model as transformers loads it, and what of ours has a gradient."""
    located = backbone.locate(str(tiny_kind(kind)), offline=True)
    plain = {
        name: p.numel()
        for name, p in AutoModel.from_pretrained(tiny_kind(kind)).named_parameters()
        if not name.startswith("pooler.")  # RoBERTa's, which no pre-training made
    }
    model = load_model(located, method, 3, seed=0, device="cpu", precision="fp32")
    counts = count(located.shape, method, 3)
    assert counts.all_parameters == sum(plain.values())
    layers = (n for name, n in plain.items() if ".layer." in name)
    assert counts.encoder_layers == sum(layers)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.stored == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counts.head == 3 * 32 + 3


# ---- the rest ----


def test_parts_add_up_and_json_has_all_of_it() -> None:
    counts = count(shape(BASE), adapter(64), 3)
    written = json.loads(json.dumps(counts.as_json(5)))
    assert sum(each["total"] for each in written["parts"]) == written["total"] == counts.total
    assert sum(each["trained"] for each in written["parts"]) == written["stored"] == counts.stored
    assert written["stored"] == written["trained"] + written["head"]
    assert written["stored_bytes"] == 4 * written["stored"]
    assert written["head"] == 3 * 768 + 3
    assert written["share_of_encoder_layers"] == written["trained"] / written["encoder_layers"]
    assert written["share_of_all_parameters"] == written["trained"] / written["all_parameters"]
    assert written["multiple_of_encoder_layers"] == 1 + 5 * written["share_of_encoder_layers"]
    assert written["multiple_of_all_parameters"] == 1 + 5 * written["share_of_all_parameters"]
    names = ["embeddings", "encoder", "LayerNorms", "pooler", "adapters", "head"]
    assert [each["name"] for each in written["parts"]] == names


def test_layers_that_the_backbone_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"--layers: layer 12 is not among 12 layers; .* 0-11"):
        count(shape(BASE), adapter(8, layers=(0, 12)), 2)
    with pytest.raises(ConfigError, match="--layers: "):
        count(shape(BASE), adapter(8, layers=()), 2)
    with pytest.raises(ConfigError, match=r"--top-k: there are 12 layers, not 13; choose 1 to 12"):
        count(shape(BASE), config.TopLayers(k=13), 2)
    all_layers = count(shape(BASE), config.TopLayers(k=12), 2)
    assert (
        all_layers.trained == all_layers.all_parameters - part(all_layers, "embeddings")[0] - 1536
    )


@given(
    st.integers(1, 12), st.integers(4, 64), st.floats(1e-4, 0.5), st.floats(1.0001, 100)
)  # fmt: skip
def test_sizes_between_are_all_sizes_between(
    layers: int, width: int, low: float, times: float
) -> None:
    form = Shape(layers=layers, width=width, intermediate=4 * width)
    high = low * times

    def inside(size: int) -> bool:
        return low <= count(form, adapter(size), 2).share_of_encoder <= high

    found = sizes_between(form, adapter(1), low, high)
    if found is None:
        # The share grows with the size, so the first one that is large enough tells for all.
        sizes = itertools.count(1)
        first = next(n for n in sizes if count(form, adapter(n), 2).share_of_encoder >= low)
        assert not inside(first)
        return
    smallest, largest = found
    assert inside(smallest)
    assert inside(largest)
    assert not inside(largest + 1)
    assert smallest == 1 or not inside(smallest - 1)


def test_no_size_is_small_enough() -> None:
    """LayerNorms train in any case: 0.045 % of BERT-base's layers."""
    assert sizes_between(shape(BASE), adapter(64), 1e-5, 4e-4) is None
    assert sizes_between(shape(BASE), adapter(64), 1e-7, 1e-6) is None
    assert sizes_between(shape(BASE), adapter(64), 1e-5, 1.2e-3) == (1, 1)
    share = count(shape(BASE), adapter(64), 2).share_of_encoder
    assert sizes_between(shape(BASE), adapter(1), share, share) == (64, 64), (
        "both bounds are inside"
    )


@pytest.mark.parametrize(
    ("keys", "adapters", "norms", "squared"),
    [
        ({}, 24, 25, 0),
        ({"layers": (0, 1, 2, 3, 4, 5)}, 12, 12, 0),
        ({"layers": (11,), "layernorms": "all"}, 2, 25, 0),
        ({"layers": (11,), "layernorms": (9, 10, 11)}, 2, 6, 0),
        ({"places": "feedforward", "layernorms": "none"}, 12, 0, 0),
        ({"depth": 3}, 24, 25, 2),
    ],
)
def test_sizes_between_are_those_of_the_method(
    keys: dict[str, Any], adapters: int, norms: int, squared: int
) -> None:
    """An adapter has 2md + d + m parameters, and m² + m for each projection more; a LayerNorm 2d."""
    d, layers, low, high = 768, 12, 0.005, 0.08
    encoder = layers * (12 * d * d + 13 * d)
    expected = [
        m
        for m in range(1, 4000)
        if low
        <= (adapters * (2 * m * d + d + m + squared * (m * m + m)) + norms * 2 * d) / encoder
        <= high
    ]
    assert 1 < expected[0] < expected[-1] < 3999
    found = sizes_between(shape(BASE), adapter(64, **keys), low, high)
    assert found == (expected[0], expected[-1])


def test_no_size_is_too_large() -> None:
    """Neither for the arithmetic nor for anybody's patience."""
    low, high = 1e15, 1e300
    found = sizes_between(shape(BASE), adapter(1), low, high)
    assert found is not None
    for size, share in zip(found, (low, high), strict=True):
        assert 24 * 1537 * size / (12 * 7_087_872) == pytest.approx(share)


def test_no_weights_are_needed() -> None:
    assert "torch" not in vars(ledger)
