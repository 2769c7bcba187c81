"""Variants of the adapter and what came since: each against its formula in numpy, and transformers'
own pass over the same modules.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertSelfOutput

from adaptertune import config
from adaptertune.errors import ConfigError
from adaptertune.model import forward, fused, methods
from adaptertune.model.adapter import Adapter
from adaptertune.model.dropout import Dropout
from adaptertune.model.inject import AdaptedOutput
from adaptertune.train.checkpoint import trained_tensors
from tests.classifiers import build
from tests.conftest import as_transformers

Array = Any
WIDTH, SIZE = 12, 5
PLAIN = config.Adapter(size=8, init_std=0.2, activation="gelu")


def variant(**keys: Any) -> config.Adapter:
    return config.Adapter.model_validate(PLAIN.model_dump() | keys)


VARIANTS = [
    variant(places="attention"),
    variant(places="feedforward", reads="normed"),  # Pfeiffer et al. 2021
    variant(places="feedforward", reads="input", scale=4.0, activation="relu"),  # He et al. 2022
    variant(reads="input", combines="multiply"),
    variant(depth=2, norm="layer", activation="swish"),
    variant(norm="batch", activation="tanh"),
    variant(layers=(1,), layernorms="all", reads="normed"),
    variant(layernorms="none", pooler="trained"),
]
OTHERS: list[config.LoRA | config.IA3] = [config.LoRA(rank=3, alpha=6.0), config.IA3()]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def norm(x: Array, module: Any, epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return scaled * module.weight.detach().numpy() + module.bias.detach().numpy()


def dense(x: Array, module: Any) -> Array:
    return x @ module.weight.detach().double().numpy().T + module.bias.detach().double().numpy()


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


@pytest.mark.parametrize("kind", ["none", "layer", "batch"])
@pytest.mark.parametrize(
    ("reads", "multiplies", "depth"),
    [*itertools.product(["output", "input", "normed"], [False, True], [1]), ("input", False, 3)],
)
def test_a_block_is_its_formula(reads: str, multiplies: bool, depth: int, kind: str) -> None:
    shape = BertConfig(hidden_size=WIDTH, num_attention_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = BertSelfOutput(shape).eval()
    adapter = Adapter(
        WIDTH, SIZE, init_std=0.5, activation="gelu", generator=torch.Generator().manual_seed(1),
        depth=depth, norm=kind, reads=reads, multiplies=multiplies, scale=2.5,
    )  # fmt: skip
    adapted = AdaptedOutput(block, adapter).requires_grad_(False)
    for number, (name, tensor) in enumerate(adapted.state_dict().items()):
        if "adapter" in name and ("bias" in name or "norm" in name):
            tensor.copy_(normal(number, *tensor.shape).abs() + 0.5)
    inner, x = normal(2, 3, 7, WIDTH), normal(3, 3, 7, WIDTH)

    h, given = dense(inner.double().numpy(), block.dense), x.double().numpy()
    r = {"output": h, "input": given, "normed": norm(h + given, block.LayerNorm, 1e-12)}[reads]
    if kind == "layer":
        r = norm(r, adapter.norm, 1e-5)
    if kind == "batch":
        assert adapter.norm is not None
        mean, variance = adapter.norm.mean.numpy(), adapter.norm.variance.numpy()  # type: ignore[operator]
        r = (r - mean) / np.sqrt(variance + 1e-5) * adapter.norm.weight.numpy()  # type: ignore[operator]
        r = r + adapter.norm.bias.numpy()  # type: ignore[operator]
    f = gelu(dense(r, adapter.down))
    for projection in adapter.inner:
        f = gelu(dense(f, projection))
    f = 2.5 * dense(f, adapter.up)
    expected = norm((h * (1 + f) if multiplies else h + f) + given, block.LayerNorm, 1e-12)
    np.testing.assert_allclose(adapted(inner, x).numpy(), expected, atol=2e-5)
    ours = forward._output([adapted], inner, x, None)
    np.testing.assert_allclose(ours.numpy(), expected, atol=2e-5)
    # Two models' halves of a batch, each with its own adapter.
    halves = forward._output([adapted, adapted], inner.repeat(2, 1, 1), x.repeat(2, 1, 1), None)
    np.testing.assert_allclose(halves.numpy(), np.concatenate([expected] * 2), atol=2e-5)


def test_batch_norm_counts_as_it_trains() -> None:
    """A batch by its own statistics; the running ones move a tenth of the way."""
    generator = torch.Generator().manual_seed(0)
    adapter = Adapter(
        WIDTH, SIZE, init_std=0.5, activation="gelu", generator=generator, norm="batch"
    )
    before = adapter(normal(1, 4, 9, WIDTH))
    x = 3 + 2 * normal(1, 4, 9, WIDTH)
    rows = x.double().numpy().reshape(-1, WIDTH)
    normed = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    expected = rows + dense(gelu(dense(normed, adapter.down)), adapter.up)
    got = adapter(x, training=True).detach().numpy().reshape(-1, WIDTH)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert adapter.norm is not None
    mean, variance = adapter.norm.mean.numpy(), adapter.norm.variance.numpy()  # type: ignore[operator]
    np.testing.assert_allclose(mean, 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-5)
    assert not torch.equal(adapter(normal(1, 4, 9, WIDTH)), before)


def test_batch_norm_of_one_row() -> None:
    """The first position of a batch's only example, in the last layer: it has no variance."""
    generator = torch.Generator().manual_seed(0)
    adapter = Adapter(
        WIDTH, SIZE, init_std=0.5, activation="gelu", generator=generator, norm="batch"
    )
    adapter(3 + 2 * normal(1, 4, 9, WIDTH), training=True)
    counted = [buffer.clone() for buffer in adapter.buffers()]
    one = normal(1, 1, 1, WIDTH)
    torch.testing.assert_close(adapter(one, training=True), adapter(one), rtol=0, atol=0)
    assert all(map(torch.equal, counted, adapter.buffers()))


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = torch.randint(5, 50, (3, 11), generator=torch.Generator().manual_seed(4))
    segments = (torch.arange(11) > 5).long().expand(3, 11).clone()
    return tokens, segments, torch.arange(11) < torch.tensor([[11], [8], [4]])


def stir(model: torch.nn.Module) -> None:
    """Move what trains away from its first values: LoRA and (IA)³ begin as the identity."""
    for number, tensor in enumerate(trained_tensors(model).values()):
        tensor.add_(0.2 * normal(number, *tensor.shape).abs())


# One layer by the written-out pass, the other by the generic one, either above the other.
MIXED = [VARIANTS[1].model_copy(update={"layers": (layer,)}) for layer in (0, 1)]


@pytest.mark.parametrize("method", [*VARIANTS, *OTHERS, *MIXED], ids=str)
def test_equals_transformers_forward_and_backward(tiny_bert: Path, method: config.Method) -> None:
    ours, theirs = build(tiny_bert, method), build(tiny_bert, method)
    stir(ours)
    stir(theirs)
    tokens, segments, mask = batch()
    mine = ours(tokens, segments, mask)
    reference = theirs.head(as_transformers(theirs.backbone)(tokens, mask, segments).pooler_output)
    torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-5)
    direction = normal(1, *mine.shape)
    (mine * direction).sum().backward()
    (reference * direction).sum().backward()
    compared = 0
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (a.grad is not None) == a.requires_grad, name
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, atol=2e-6, rtol=2e-4, msg=name)
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("method", OTHERS, ids=str)
def test_they_begin_as_the_backbone_and_come_from_the_seed(
    tiny_bert: Path, method: config.Method
) -> None:
    model, plain = build(tiny_bert, method), build(tiny_bert, config.LayerNorm())
    torch.testing.assert_close(model(*batch()), plain(*batch()))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again = build(tiny_bert, method), build(tiny_bert, method)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    other = build(tiny_bert, method, seed=1)
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert torch.equal(a, c) != ("lora_A" in name or name == "head.weight")


def test_lora_is_its_formula(tiny_bert: Path) -> None:
    model = build(tiny_bert, config.LoRA(rank=3, alpha=6.0)).requires_grad_(False)
    module = model.backbone.encoder.layer[1].attention.self.value
    module.lora_B.default.weight.copy_(normal(0, 32, 3))
    x = normal(1, 4, 32)
    update = module.lora_B.default.weight @ module.lora_A.default.weight * 6 / 3
    expected = dense(x.double().numpy(), module.base_layer) + (x @ update.T).numpy()
    np.testing.assert_allclose(module(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("method", [*VARIANTS, *OTHERS], ids=str)
def test_bf16_is_close(tiny_bert: Path, method: config.Method) -> None:
    rough, exact = build(tiny_bert, method, precision="bf16"), build(tiny_bert, method)
    for name, parameter in rough.named_parameters():
        assert not parameter.requires_grad or parameter.dtype == torch.float32, name
    dropout = Dropout(0, torch.device("cpu"))
    rough(*batch(), dropout).sum().backward()
    torch.testing.assert_close(rough(*batch()), exact(*batch()), atol=3e-2, rtol=3e-2)


def test_only_plain_layers_take_the_written_out_pass(tiny_bert: Path) -> None:
    kinds: list[config.Method] = [PLAIN, config.Full(), *VARIANTS, *OTHERS]
    covered = {
        str(method): all(map(fused.covers, build(tiny_bert, method).backbone.encoder.layer))
        for method in kinds
    }
    assert [method for method, is_plain in covered.items() if is_plain] == [
        str(method) for method in (PLAIN, config.Full(), VARIANTS[0], VARIANTS[-1])
    ]


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs the package peft; pip install"):
        methods.check_available(OTHERS[0])
    methods.check_available(PLAIN)
