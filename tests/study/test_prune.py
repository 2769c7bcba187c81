"""Pruning: the search on known costs, the smaller run by brute force, and what it leaves on disk."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from adaptertune import config
from adaptertune.errors import DataError
from adaptertune.model import removal
from adaptertune.model.inject import adapted_outputs
from adaptertune.model.removal import Removal
from adaptertune.runs import analyses
from adaptertune.runs.reopen import Reopened, reopen
from adaptertune.runs.store import CellFolder
from adaptertune.study.prune import halves, prune, search, smaller_plan
from adaptertune.study.spans import spans
from adaptertune.train import evaluate
from adaptertune.train.checkpoint import read_tensors
from tests.conftest import Finished
from tests.study.test_spans import _splits, silent, train


def scoring(cost: Callable[[Removal], float | None]) -> Any:
    """A score that is 0.9 less the cost; each choice may be asked for once only."""
    asked: set[Removal] = set()

    def score(choices: Sequence[Removal]) -> list[float | None]:
        assert not asked.intersection(choices)
        asked.update(choices)
        costs = [cost(choice) for choice in choices]
        return [None if one is None else 0.9 - one for one in costs]

    return score


def test_search_keeps_to_the_limit_and_leaves_nothing_that_a_span_could_take() -> None:
    rng = random.Random(0)
    for _ in range(40):
        layers = sorted(rng.sample(range(12), rng.randint(2, 7)))
        costs = {layer: rng.choice([-0.01, 0.0, 0.002, 0.01, 0.3]) for layer in layers}

        def cost(choice: Removal, costs: dict[int, float] = costs) -> float:
            return sum(costs[layer] for layer in choice)

        found = search(layers, 0.0125, scoring(cost))
        assert found.removed < set(layers), "one layer stays"
        assert not found.removed or cost(found.removed) <= 0.0125
        for first, last in removal.spans(layers):
            wider = found.removed | {layer for layer in layers if first <= layer <= last}
            assert wider in (found.removed, set(layers)) or cost(wider) > 0.0125
        # Costs that add up: the most layers that any choice within the limit has, by trying them all.
        possible = [
            Removal(some)
            for size in range(len(layers))
            for some in itertools.combinations(layers, size)
            if cost(Removal(some)) <= 0.0125
        ]
        assert len(found.removed) >= max(map(len, possible)) - 1


def test_search_joins_spans_and_prefers_the_better_of_equals() -> None:
    free = {0, 1, 4}
    joined = search(range(6), 0.01, scoring(lambda choice: 1.0 if choice - free else 0.0))
    assert joined.removed == free
    better = search(range(3), 0.05, scoring(lambda choice: 0.04 - 0.01 * (2 in choice)
                                            if len(choice) == 1 else 0.1 * len(choice)))  # fmt: skip
    assert better.removed == {2}


@pytest.mark.parametrize(
    ("intact", "without", "limit"),
    [(0.50, 0.49, 1), (0.87, 0.86, 1), (0.52, 0.50, 2), (0.865, 0.86, 0.5), (0.605, 0.60, 0.5)],
)
def test_search_takes_what_costs_the_limit_itself(
    intact: float, without: float, limit: float
) -> None:
    """In floating point 0.87 - 0.86 is more than 0.01."""

    def score(choices: Sequence[Removal]) -> list[float | None]:
        return [intact if not choice else without if choice == {0} else 0.0 for choice in choices]

    assert search([0, 1], limit / 100, score).removed == {0}
    assert search([0, 1], limit / 100 - 1e-4, score).removed == Removal()


def test_search_takes_nothing_where_nothing_may_go_or_nothing_is_known() -> None:
    assert search(range(4), 0.0, scoring(len)).removed == Removal()
    assert search(range(4), 1.0, scoring(lambda _: None)).removed == Removal()
    undefined = search(range(2), 1.0, scoring(lambda choice: None if 0 in choice else 0.0))
    assert undefined.removed == {1}
    assert search([3], 1.0, scoring(lambda _: 0.0)).removed == Removal()


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Reopened:
    folder = train(tiny_bert, tmp_path_factory.mktemp("runs"))
    return reopen(folder, folder.finished_result())


def validation(run: Reopened) -> Any:
    return next(encoded for encoded in _splits(run) if encoded.name == "validation")


def test_halves_share_nothing_and_each_label(tiny_bert: Path, tmp_path: Path) -> None:
    folder = train(tiny_bert, tmp_path, task="mnli", seeds=1)
    whole = _splits(reopen(folder, folder.finished_result()))[1]
    first, second = halves(whole)
    assert (len(first), len(second)) == (4, 4)

    def rows(encoded: Any) -> list[bytes]:
        return [encoded.tokens[encoded.span(i)].tobytes() for i in range(len(encoded))]

    assert sorted(rows(first) + rows(second)) == sorted(rows(whole))
    for label in range(3):
        assert abs(int(np.sum(first.labels == label)) - int(np.sum(second.labels == label))) <= 1
    assert rows(halves(whole)[0]) == rows(first)
    with pytest.raises(DataError, match="one example of validation_matched makes no two"):
        halves(whole.subset(np.array([3])))


def test_the_smaller_run_is_a_run(run: Reopened, cli: Callable[..., Finished]) -> None:
    found = prune(run, 2.0, silent, silent)  # a correlation can't lose more
    assert found.pruned is not None
    assert len(found.remaining) == 1
    made = smaller_plan(run, found.remaining, run.folder.path.parent.parent)
    assert made.located is run.plan.located, "whatever else goes by its name by now"
    assert sorted(found.removed + found.remaining) == [0, 1]
    width, size = 32, 8
    assert found.trained_before - found.trained_after == 2 * (2 * width * size + width + size)
    folder = CellFolder(Path(found.pruned))
    assert analyses.PruneResult.model_validate(json.loads(folder.prune.read_text())) == found
    smaller = reopen(folder, folder.finished_result())
    assert smaller.result.digest != run.result.digest
    written = json.loads(folder.config.read_text())
    assert written["identity"]["pruned_from"] == run.result.digest
    assert written["config"]["method"]["layers"] == found.remaining
    assert written["origins"]["method.layers"] == f"prune {run.folder.path.name}"
    encoded = validation(run)
    for number, seed in enumerate(run.seeds):
        large, small = run.load(seed), smaller.load(seed)
        assert {layer for layer, _ in adapted_outputs(small.backbone)} == set(found.remaining)
        before = _pearson(large, encoded)
        for layer, block in adapted_outputs(large.backbone):
            if layer in found.removed:
                torch.nn.init.zeros_(block.adapter.up.weight)
                torch.nn.init.zeros_(block.adapter.up.bias)
        np.testing.assert_allclose(_logits(small, encoded), _logits(large, encoded), atol=1e-5)
        kept = folder.seed(seed).read_result()
        assert kept is not None
        whole = kept.scores["validation"].values["pearson"]
        assert whole == pytest.approx(_pearson(large, encoded), abs=1e-3)
        assert whole != pytest.approx(before, abs=1e-3)
        assert kept.checkpoint is not None
        assert kept.checkpoint.parameters == found.trained_after == kept.ledger["stored"]
        for half, of in zip((found.choosing, found.reporting), halves(encoded), strict=True):
            assert half.num_examples == 4
            assert half.after["pearson"][number] == pytest.approx(_pearson(large, of), abs=1e-3)
            again = _pearson(run.load(seed), of)
            assert half.before["pearson"][number] == pytest.approx(again, abs=1e-3)
    shown = cli("show", folder.path)
    assert shown.code == 0
    assert "Pruned: " in " ".join(shown.out.split())
    assert [(c.first, c.last) for c in spans(smaller, None, silent, silent).cells] == [
        (found.remaining[0], found.remaining[0])
    ]


def test_of_chosen_layers_those_layernorms_stay_that_were_trained(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """Not the embeddings', which the larger run has as the backbone has them."""
    folder = train(tiny_bert, tmp_path, method__layers="0-1", seeds=1)
    larger = reopen(folder, folder.finished_result())
    found = prune(larger, 2.0, silent, silent)
    width, size, norms = 32, 8, 2 * 2 * 2 * 32
    assert found.trained_before == 4 * (2 * width * size + width + size) + norms + width + 1
    assert found.trained_after == 2 * (2 * width * size + width + size) + norms + width + 1
    assert found.pruned is not None
    smaller = CellFolder(Path(found.pruned))
    assert reopen(smaller, smaller.finished_result()).plan.config.method == config.Adapter(
        size=8, init_std=0.5, activation="gelu", layers=tuple(found.remaining), layernorms=(0, 1)
    )
    stored, _ = read_tensors(smaller.seed(0).checkpoint)
    assert sum(tensor.numel() for tensor in stored.values()) == found.trained_after


@pytest.mark.parametrize(
    ("place", "name"),
    [("stsb", "{}"), ("stsb/{}", "."), ("stsb/{}/seed-0", ".."), (".", "stsb/{}")],
)
def test_the_smaller_run_lies_beside_the_larger_one(
    run: Reopened,
    cli: Callable[..., Finished],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    name: str,
) -> None:
    """However its folder is named from wherever one is."""
    own = run.folder.path.name
    root = tmp_path / "runs"
    shutil.copytree(run.folder.path, root / "stsb" / own)
    before = set(tmp_path.rglob("config.json"))
    monkeypatch.chdir(root / place.format(own))
    done = cli("prune", name.format(own), "--max-drop", "100", "--json", "--quiet")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    (made,) = set(tmp_path.rglob("config.json")) - before
    assert made.parent.parent == root / "stsb"
    assert Path(found["pruned"]) == made.parent
    assert json.loads(made.read_text())["origins"]["method.layers"] == f"prune {own}"
    assert f"Pruned: {own} without" in (made.parent / "result.json").read_text()
    assert cli("show", found["pruned"]).code == 0


def test_the_smaller_run_goes_to_the_store_that_is_named(
    run: Reopened, cli: Callable[..., Finished], tmp_path: Path
) -> None:
    """A run is its folder, wherever that was copied to."""
    shutil.copytree(run.folder.path, tmp_path / "mine")
    before = {path for path in tmp_path.rglob("*") if path.is_dir()}
    done = cli("prune", "mine", "--max-drop", "100")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert "mine: lies in no store; name the store that the smaller run goes to with" in done.err
    assert {path for path in tmp_path.rglob("*") if path.is_dir()} == before
    done = cli("prune", "mine", "--max-drop", "100", "--output", "out", "--json", "--quiet")
    assert done.code == 0, done.err
    (made,) = (tmp_path / "out").glob("stsb/*/config.json")
    assert Path(json.loads(done.out)["pruned"]).absolute() == made.parent
    assert {
        path for path in tmp_path.rglob("*") if path.is_dir() and "out" not in path.parts
    } == before


def _logits(model: Any, encoded: Any) -> Any:
    return evaluate.logits(model, encoded, torch.device("cpu"))


def _pearson(model: Any, encoded: Any) -> float:
    return float(stats.pearsonr(_logits(model, encoded)[:, 0], encoded.labels).statistic)


def test_as_it_is_typed(
    run: Reopened, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")  # narrower, labels are folded
    done = cli("prune", run.folder.path, "--max-drop", "100")
    assert done.code == 0, done.err
    for words in ("not used for the choice", "parameters in the checkpoint", "adaptertune show"):
        assert words in " ".join(done.out.split())
    found = json.loads(cli("prune", run.folder.path, "--max-drop", "0", "--json").out)
    assert analyses.PruneResult.model_validate(found).max_drop == 0
    bad = cli("prune", run.folder.path, "--max-drop", "101")
    assert (bad.code, bad.out) == (2, "")
    assert "no run 'x'" in cli("prune", "x").err
