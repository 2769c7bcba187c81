"""Our forward pass against transformers' own, gradients included; dropout against its distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from adaptertune import config
from adaptertune.model import forward, fused
from adaptertune.model.adapter import ACTIVATIONS
from adaptertune.model.dropout import Dropout
from tests.classifiers import build
from tests.conftest import as_transformers

CPU = torch.device("cpu")
ADAPTER = config.Adapter(size=8, init_std=0.2, activation="gelu")


def batch(*, padded: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(5, 50, (3, 11), generator=generator)
    segments = (torch.arange(11) > 5).long().expand(3, 11).clone()
    mask = torch.arange(11) < torch.tensor([[11], [8], [4]]) if padded else None
    return tokens, segments, mask


def test_a_gpus_attention_is_not_cudnns(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which rounds what dropout drops; here a device without numbers stands for it."""
    attend, allowed = torch.nn.functional.scaled_dot_product_attention, list[bool]()

    def is_allowed() -> bool:
        return bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]

    def attended(*arguments: Any, **options: Any) -> torch.Tensor:
        allowed.append(is_allowed())
        return attend(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attended)
    before = is_allowed()
    model = build(tiny_bert, ADAPTER).to("meta")
    model(*(part if part is None else part.to("meta") for part in batch(padded=True)))
    assert allowed == [False, False]
    assert is_allowed() == before


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    "method",
    [ADAPTER, ADAPTER.model_copy(update={"layers": (1,)}), config.TopLayers(k=1), config.Full()],
    ids=["adapter", "upper", "top_layers", "full"],
)
def test_equals_transformers_forward_and_backward(
    tiny_bert: Path, method: config.Method, padded: bool
) -> None:
    ours, theirs = build(tiny_bert, method), build(tiny_bert, method)
    tokens, segments, mask = batch(padded=padded)
    mine = ours(tokens, segments, mask)
    reference = theirs.head(as_transformers(theirs.backbone)(tokens, mask, segments).pooler_output)
    torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-5)
    weights = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1))
    (mine * weights).sum().backward()
    (reference * weights).sum().backward()
    compared = 0
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if a.requires_grad:
            assert a.grad is not None, name
            torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)
            compared += 1
        else:
            assert a.grad is None, name
    assert compared > 10


METHODS = [
    *(ADAPTER.model_copy(update={"activation": name}) for name in ACTIVATIONS),
    config.Full(),
    config.TopLayers(k=1),
    config.LayerNorm(),
    config.BitFit(),
]


@pytest.mark.parametrize("only_first", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: getattr(m, "activation", m.name))
def test_fused_layer_is_the_layer(
    tiny_bert: Path, method: config.Method, padded: bool, only_first: bool
) -> None:
    """Value and every gradient, dropout included: what is written out against autograd."""
    model = build(tiny_bert, method)
    layer = model.backbone.encoder.layer[1]
    for module in layer.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 11, 32, generator=generator, requires_grad=True)
    bias = forward.attention_bias(batch(padded=padded)[2], torch.float32)
    found = []
    for apply in (fused.transformer_layers, forward.transformer_layer):
        result = apply([layer], hidden, bias, Dropout(7, CPU), only_first=only_first)
        assert result.shape == (3, 1 if only_first else 11, 32)
        direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
        wanted = [p for p in layer.parameters() if p.requires_grad]
        gradients = torch.autograd.grad((result * direction).sum(), [hidden, *wanted])
        found.append((result, *gradients))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_onednn_the_generic_layer_serves(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    model = build(tiny_bert, ADAPTER, precision=precision)
    expected = model(*batch(padded=True))

    def absent(*_: Any, **__: Any) -> None:
        raise AssertionError("there is no oneDNN")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(fused, "transformer_layers", absent)
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    torch.testing.assert_close(model(*batch(padded=True)), expected, atol=tolerance, rtol=tolerance)


def test_last_layer_computes_the_first_position_only(tiny_bert: Path) -> None:
    layer = build(tiny_bert, ADAPTER).backbone.encoder.layer[1]
    hidden = torch.randn(3, 11, 32, generator=torch.Generator().manual_seed(0))
    for apply in (fused.transformer_layers, forward.transformer_layer):
        whole = apply([layer], hidden, None, None)
        first = apply([layer], hidden, None, None, only_first=True)
        torch.testing.assert_close(first, whole[:, :1])


def test_frozen_query_key_and_value_are_joined_without_a_copy(tiny_bert: Path) -> None:
    parallel = ADAPTER.model_copy(update={"reads": "input"})  # of no layer written out for a CPU
    for method, is_copied in ((ADAPTER, False), (parallel, False), (config.Full(), True)):
        block = build(tiny_bert, method).backbone.encoder.layer[1].attention.self
        for kind in ("weight", "bias"):
            parts = [getattr(part, kind) for part in (block.query, block.key, block.value)]
            joined = fused.joined(parts)
            assert torch.equal(joined, torch.cat(parts))
            assert (joined.data_ptr() != parts[0].data_ptr()) == is_copied


def test_padding_changes_nothing(tiny_bert: Path) -> None:
    model = build(tiny_bert, ADAPTER)
    tokens, segments, _ = batch(padded=False)
    alone = model(tokens[:1, :7], segments[:1, :7], None)
    mask = torch.arange(11) < torch.tensor([[7], [11], [11]])
    together = model(tokens, segments, mask)
    torch.testing.assert_close(alone, together[:1], atol=1e-6, rtol=1e-5)


def test_frozen_weights_are_held_in_bf16_and_trained_ones_in_fp32(tiny_bert: Path) -> None:
    for method in (ADAPTER, config.Full(), config.TopLayers(k=1)):
        model = build(tiny_bert, method, precision="bf16")
        for name, p in model.named_parameters():
            is_table_or_product = "LayerNorm" not in name
            held = torch.bfloat16 if is_table_or_product and not p.requires_grad else torch.float32
            assert p.dtype == held, (method.name, name)
        logits = model(*batch(padded=True))
        assert logits.dtype == torch.float32
        exact = build(tiny_bert, method)(*batch(padded=True))
        torch.testing.assert_close(logits, exact, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
    "method",
    [*METHODS, ADAPTER.model_copy(update={"norm": "batch", "depth": 2, "reads": "input"}),
     config.LoRA(rank=2, alpha=8), config.IA3()],
    ids=lambda m: getattr(m, "activation", m.name),
)  # fmt: skip
def test_held_for_answers_it_gives_the_same_logits(tiny_bert: Path, method: config.Method) -> None:
    """Bitwise, whatever a training made of the weights."""
    model = build(tiny_bert, method, precision="bf16").eval()
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        before = model(*batch(padded=True))
        num_bytes = sum(p.nbytes for p in model.backbone.encoder.parameters())
        model.hold_for_answers()
        assert torch.equal(model(*batch(padded=True)), before)
    held = sum(p.nbytes for p in model.backbone.encoder.parameters())
    assert held <= num_bytes
    if isinstance(method, config.Adapter | config.Full):
        assert held < num_bytes


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_distribution(rate: float, dtype: torch.dtype) -> None:
    dropout = Dropout(3, CPU)
    keep, factor = dropout.mask(torch.Size((500, 800)), rate, dtype)
    values = keep.float().numpy()
    assert set(np.unique(values)) == {0.0, 1.0}
    dropped = round(rate * 65536) / 65536
    assert abs(dropped - rate) < 1 / 65536
    assert factor == pytest.approx(1 / (1 - dropped))
    number = int((values == 0).sum())
    assert stats.binomtest(number, values.size, dropped).pvalue > 1e-3
    # Neighbours are independent, along rows and columns and at the distance of a 64-bit word.
    for shift in (1, 4, 800):
        flat = values.ravel()
        correlation = np.corrcoef(flat[:-shift], flat[shift:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(values.size)
    assert not torch.equal(dropout.mask(torch.Size((500, 800)), rate, dtype)[0], keep)
    assert torch.equal(Dropout(3, CPU).mask(torch.Size((500, 800)), rate, dtype)[0], keep)
    assert not torch.equal(Dropout(4, CPU).mask(torch.Size((500, 800)), rate, dtype)[0], keep)


def test_dropout_gradient_goes_where_the_values_went() -> None:
    hidden = torch.randn(50, 60, generator=torch.Generator().manual_seed(0), requires_grad=True)
    dropped = Dropout(5, CPU)(hidden, 0.25)
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    kept = dropped != 0
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], hidden[kept] / 0.75)
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad, kept.float() / 0.75)


def test_dropout_keeps_the_mean_and_rate_zero_is_free() -> None:
    ones = torch.ones(1000, 1000)
    assert Dropout(0, CPU)(ones, 0.1).mean().item() == pytest.approx(1, abs=2e-3)
    halves = Dropout(0, CPU)(ones.bfloat16(), 0.5).float()
    assert halves.mean().item() == pytest.approx(1, abs=4e-3)
    assert Dropout(0, CPU)(ones, 0.0) is ones


def test_all_three_places_have_dropout(tiny_bert: Path) -> None:
    """Hidden states (before the adapter), attention and the head's input: switch off all but one."""
    tokens, segments, mask = batch(padded=True)

    def changed(hidden: float, attention: float, head: float) -> bool:
        model = build(tiny_bert, ADAPTER)
        for name, module in model.backbone.named_modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = attention if name.endswith("self.dropout") else hidden
        model.backbone.dropout_rate = head
        plain = model(tokens, segments, mask)
        return not torch.equal(plain, model(tokens, segments, mask, Dropout(1, CPU)))

    assert not changed(0, 0, 0)
    assert changed(0.5, 0, 0)
    assert changed(0, 0.5, 0)
    assert changed(0, 0, 0.5)
