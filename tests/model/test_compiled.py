"""Compiled layers come to what plain ones come to, for all lengths by a handful of graphs.

Most of it runs the captured graphs as they are (backend "eager"): what is ours is what can be captured,
under which guards. Kernels are generated in one test, which takes a C++ compiler half a minute of work.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptertune import config
from adaptertune.model import forward
from adaptertune.model.build import share_frozen
from adaptertune.model.classifier import Classifier, logits, loss
from adaptertune.model.dropout import Dropout
from adaptertune.train.checkpoint import trained_tensors
from adaptertune.train.loop import Lane, Outcome
from adaptertune.train.optim import of_training
from tests.classifiers import build
from tests.train.test_loop import TRAINING, Recorder, run_together
from tests.train.test_stacked import without_dropout

ADAPTER = config.Adapter(size=8, init_std=0.2, activation="gelu")
UPPER = ADAPTER.model_copy(update={"layers": (1,)})
NORMED = ADAPTER.model_copy(update={"norm": "batch"})
META = torch.device("meta")

# torch.compile's own, while it looks at what it is given
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    before = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = before
    forward.compiled_layer.cache_clear()
    forward._compiled_for.clear()


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are captured and run, but no code is generated from them."""
    made = partial(forward.compiled_layer, "eager")
    made.cache_clear = forward.compiled_layer.cache_clear  # type: ignore[attr-defined]
    monkeypatch.setattr(forward, "compiled_layer", made)


def compiled(model: Classifier) -> Classifier:
    model.is_compiled = True
    return model


def num_graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.usefixtures("captured")
def test_other_methods_do_not_add_up_to_more_than_torch_takes(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(size: int) -> None:
        method = ADAPTER.model_copy(update={"size": size})
        run_together([Lane(0, compiled(without_dropout(build(tiny_bert, method))), Recorder())])

    monkeypatch.setattr(forward, "MOST_COMPILED", 1)
    forward.make_room_to_compile("size 2")
    train(2)
    before = num_graphs()
    forward.make_room_to_compile("size 2")
    train(2)
    assert num_graphs() == before
    monkeypatch.setattr(forward, "COMPILED_KINDS", before + 1)
    torch._dynamo.reset()
    forward.compiled_layer.cache_clear()
    train(2)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        train(4)
    forward.make_room_to_compile("size 4")
    train(4)


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize(
    ("method", "seeds"),
    [(ADAPTER, (0, 4)), (UPPER, (0,)), (config.Full(), (0,)), (NORMED, (0,))],
    ids=["stacked", "upper", "full", "batch norm"],
)
def test_a_training_comes_to_the_same(
    tiny_bert: Path, method: config.Method, seeds: tuple[int, ...]
) -> None:
    """Whole epochs of all lengths, masked and not, the short last batch and the evaluations."""
    plain, other = (
        [without_dropout(build(tiny_bert, method, seed=seed)) for seed in seeds] for _ in range(2)
    )
    for models in (plain, other):
        for model in models[1:]:
            share_frozen(model, models[0])
    expected = run_together([Lane(s, m, Recorder()) for s, m in zip(seeds, plain, strict=True)])
    assert num_graphs() == 0
    lanes = [Lane(s, compiled(m), Recorder()) for s, m in zip(seeds, other, strict=True)]
    found = run_together(lanes)
    assert 0 < num_graphs() <= 16
    for one, two, model, reference in zip(found, expected, other, plain, strict=True):
        assert isinstance(one, Outcome)
        assert isinstance(two, Outcome)
        np.testing.assert_allclose(one.logits, two.logits, atol=2e-5, rtol=1e-5)
        theirs = trained_tensors(reference)
        for name, tensor in trained_tensors(model).items():
            torch.testing.assert_close(tensor, theirs[name], atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.usefixtures("captured")
def test_other_lengths_and_batch_sizes_need_no_other_graph(tiny_bert: Path) -> None:
    model = compiled(build(tiny_bert, ADAPTER))
    seen = []
    for batch, length in [(8, 12), (8, 18), (7, 20), (8, 36), (5, 48), (8, 64)]:
        tokens = torch.full((batch, length), 7)
        mask = torch.arange(length).expand(batch, length) < length - 2
        model(tokens, torch.zeros_like(tokens), mask).sum().backward()
        seen.append(num_graphs())
    assert seen == seen[:1] * len(seen)


@pytest.mark.usefixtures("captured")
def test_what_cuda_runs_is_captured_whole(tiny_bert: Path) -> None:
    """The branches for other devices than a CPU, on one that has shapes and no numbers: any look at a
    number, and anything that can't be captured, is an error there.
    """
    model = compiled(build(tiny_bert, ADAPTER, precision="bf16")).to(META)
    tokens = torch.zeros(6, 20, dtype=torch.int64, device=META)
    for mask in (None, torch.ones(6, 20, dtype=torch.bool, device=META)):
        found = model(tokens, tokens, mask, Dropout(0, META))
        found.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.usefixtures("captured")
def test_masks_depend_on_the_seed_alone(tiny_bert: Path) -> None:
    """With torch's own dropout, as on CUDA."""
    model = compiled(build(tiny_bert, ADAPTER))
    tokens = torch.arange(5, 19).repeat(6, 1)

    def values(seed: int) -> torch.Tensor:
        dropout = Dropout(seed, META)  # torch's, whatever the numbers lie on
        return logits([model], tokens, torch.zeros_like(tokens), None, dropout)

    assert torch.equal(values(1), values(1))
    assert not torch.allclose(values(1), values(2), atol=1e-3)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # in torch's generator
def test_generated_kernels_come_to_the_same(tiny_bert: Path) -> None:
    """The last layer, over a known trunk: logits, and three training steps of different lengths."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler for a CPU, and there is none")
    pair = [without_dropout(build(tiny_bert, UPPER)) for _ in range(2)]
    compiled(pair[1])
    optimizers = [of_training(model.named_parameters(), TRAINING, 10) for model in pair]
    rng = torch.Generator().manual_seed(0)
    for length in (12, 18, 20):
        tokens = torch.randint(5, 50, (8, length), generator=rng)
        segments = torch.zeros_like(tokens)
        mask = torch.arange(length) < torch.randint(4, length, (8, 1), generator=rng)
        hidden = pair[0].trunk(tokens, segments, mask).detach()
        values = []
        for model, optimizer in zip(pair, optimizers, strict=True):
            values.append(model(tokens, segments, mask, hidden=hidden))
            value = loss(values[-1], tokens[:, 0] % 2)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        torch.testing.assert_close(values[0], values[1], atol=1e-5, rtol=1e-5)
    assert num_graphs() == 1
    theirs = trained_tensors(pair[0])
    for name, tensor in trained_tensors(pair[1]).items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-4, msg=name)
