"""Which cells make a row, what it is called, and which cell is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptertune import config as configuration
from adaptertune.report import commands, comparison, evidence, words
from adaptertune.report.comparison import methods
from adaptertune.report.schema import Entry, Hole
from adaptertune.runs import results
from tests.report.records import add, digest, entry, held_out, one_metric, only, swept, two_metrics

HELD_OUT = {"protocol": "held-out"}


def rate(value: float, **others: object) -> dict[str, object]:
    return {"training.learning_rate": value, **others}


@pytest.mark.parametrize(
    ("protocol", "chosen", "mean"), [("paper", 3e-3, 0.7), ("held-out", 1e-3, 0.72)]
)
def test_candidates_differ_in_rate_and_epochs_and_the_one_that_a_sweep_chooses_is_shown(
    tmp_path: Path, protocol: str, chosen: float, mean: float
) -> None:
    """By the best run as the paper does, or by the mean."""
    add_scores = one_metric if protocol == "paper" else held_out
    for value, scores in ((1e-4, (0.6, 0.8)), (1e-3, (0.71, 0.73)), (3e-3, (0.5, 0.9))):
        options = rate(value, protocol=protocol)
        add(tmp_path, "rte", add_scores(*scores), options=options)
    add(tmp_path, "rte", add_scores(0.6, 0.6), options={"training.epochs": 2, "protocol": protocol})
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.num_candidates == 4
    assert found.settings["training.learning_rate"] == chosen
    assert found.mean == pytest.approx(mean)
    said = {
        "paper": "the best single run on validation",
        "held-out": "the highest mean on the held",
    }
    assert said[protocol] in shown.protocol
    assert "first seed" not in shown.protocol


def test_of_several_sizes_each_has_its_own_best_first_as_in_a_sweep(tmp_path: Path) -> None:
    """Where only the best rate of each size has all seeds, these decide between the sizes."""
    found = {}
    for size, rates in (
        (8, {1e-4: (0.65,), 1e-3: (0.7, 0.6)}),
        (64, {1e-4: (0.5,), 1e-3: (0.69, 0.8)}),
    ):
        for value, scores in rates.items():
            options = rate(value, **{"method.size": size})
            found[size, value] = add(tmp_path, "rte", one_metric(*scores), options=options)
    shown = entry(only(tmp_path), "adapters, best of 8/64", "RTE")
    assert (shown.run, shown.num_candidates) == (digest(found[64, 1e-3]), 4)


def test_full_fine_tuning_with_a_frozen_pooler_is_a_row_of_its_own_and_nobodys_reference(
    tmp_path: Path,
) -> None:
    """A run of an early version, which does not name the pooler, trained it."""
    full = add(tmp_path, "rte", one_metric(0.6), options={"method.name": "full"})
    frozen = {"method.name": "full", "method.pooler": "frozen"}
    add(tmp_path, "rte", one_metric(0.7), options=frozen)
    add(tmp_path, "rte", one_metric(0.65))
    old = json.loads(full.config.read_text())
    for described in (old["config"], old["identity"]):
        assert described["method"].pop("pooler") == "trained"
    full.config.write_text(json.dumps(old))
    shown = only(tmp_path)
    labels = [row.label for row in shown.rows]
    assert labels == ["full fine-tuning", "full fine-tuning, pooler frozen", "adapters 64"]
    beside = shown.rows[2].places[0].beside
    assert beside is not None
    assert beside.difference.mean == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"method.name": "full", "method.pooler": "frozen"}, "full fine-tuning, pooler frozen"),
        ({"method.reads": "input"}, "adapters 64, reads input"),
        ({"recipe": "official-code"}, "adapters 64, recipe official-code"),
        ({"method.layers": "3-5"}, "adapters 64, layers 3,4,5"),
        ({}, "adapters 64"),
    ],
)
def test_a_variant_has_its_name_where_nothing_else_ran(
    tmp_path: Path, options: dict[str, object], label: str
) -> None:
    add(tmp_path, "rte", one_metric(0.7), options=options)
    assert [row.label for row in only(tmp_path).rows] == [label]


def test_where_nothing_may_be_set_beside_full_fine_tuning_that_is_said(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.65))
    frozen = {"method.name": "full", "method.pooler": "frozen"}
    add(tmp_path, "rte", one_metric(0.7), options=frozen)
    said = (
        "Nothing is set beside full fine-tuning: none that trains everything was trained alike, "
        "or no seed with a score is shared."
    )
    assert said in words.remarks(only(tmp_path))
    add(tmp_path, "rte", one_metric(0.7), options={"method.name": "full"})
    assert said not in words.remarks(only(tmp_path))


def test_a_recipe_hides_nothing_that_was_set_by_hand(tmp_path: Path) -> None:
    add(
        tmp_path,
        "rte",
        one_metric(0.7),
        options={"recipe": "official-code", "method.norm": "batch"},
    )
    assert [row.label for row in only(tmp_path).rows] == [
        "adapters 64, recipe official-code, norm batch"
    ]


def test_a_variant_on_some_tasks_is_left_out_only_beside_the_method_itself(tmp_path: Path) -> None:
    """Else holes, and the commands that fill them, would go with it."""
    f1 = two_metrics("f1", "accuracy", (0.9, 0.8))
    add(tmp_path, "rte", one_metric(0.7), options={"method.activation": "relu"})
    add(tmp_path, "mrpc", f1, options={"method.name": "full"})
    shown = only(tmp_path)
    assert len(shown.rows) == 2
    assert not shown.elsewhere
    holes = [one for row in shown.rows for one in row.entries if isinstance(one, Hole)]
    assert all(hole.command for hole in holes)
    assert len(holes) == 2
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "mrpc", f1)
    assert only(tmp_path).elsewhere == ["adapters 64, activation relu"]


def test_a_pruned_run_is_a_method_of_its_own(tmp_path: Path) -> None:
    some = {"method.layers": "3-5", "method.layernorms": "all"}
    pruned = add(tmp_path, "rte", one_metric(0.7), options=some)
    add(tmp_path, "rte", one_metric(0.6), options=some | {"training.learning_rate": 3e-3})
    described = json.loads(pruned.config.read_text())
    described["identity"]["pruned_from"] = "0" * 64
    pruned.config.write_text(json.dumps(described))
    labels = [row.label for row in only(tmp_path).rows]
    plain = "adapters 64, layernorms all, layers 3,4,5"
    assert labels == [plain, f"{plain}, pruned afterwards"]


def test_runs_of_an_early_version_are_candidates_beside_later_ones(tmp_path: Path) -> None:
    early = add(tmp_path, "rte", one_metric(0.7), options=rate(1e-4))
    add(tmp_path, "rte", one_metric(0.6), options=rate(1e-3))
    described = json.loads(early.config.read_text())
    for key in ("init_from", "protocol", "compile"):
        del described["config"][key]
    early.config.write_text(json.dumps(described))
    assert entry(only(tmp_path), "adapters 64", "RTE").num_candidates == 2


def test_more_seeds_are_no_more_draws_at_the_best_run(tmp_path: Path) -> None:
    """Seed 0 alone is everybody's, and one that diverged is had; without a shared seed all count."""
    add(tmp_path, "rte", one_metric(0.6, 0.9, 0.9), options=rate(1e-4))
    add(tmp_path, "rte", one_metric(0.7), options=rate(1e-3))
    add(tmp_path, "rte", one_metric(None, 0.95), options=rate(3e-3))
    assert entry(only(tmp_path), "adapters 64", "RTE").mean == 0.7
    unlike = one_metric(0.8)
    add(tmp_path, "rte", {7: unlike[0]}, options=rate(3e-4))
    assert entry(only(tmp_path), "adapters 64", "RTE").mean == 0.95


def test_without_a_sweep_one_lucky_seed_does_not_beat_five(tmp_path: Path) -> None:
    add(tmp_path, "rte", held_out(0.9), options=rate(1e-4, **HELD_OUT))
    add(tmp_path, "rte", held_out(*[0.7] * 5), options=rate(1e-3, **HELD_OUT))
    add(tmp_path, "rte", held_out(*[0.6] * 7), options=rate(3e-3, **HELD_OUT))
    assert entry(only(tmp_path), "adapters 64", "RTE").mean == pytest.approx(0.7)


def test_a_mean_is_of_the_seeds_that_the_sweep_asked_for_and_not_a_leftover(tmp_path: Path) -> None:
    """A sweep of two seeds, whose winner has both, and a cell of ten that no sweep lists."""
    root, options = tmp_path, HELD_OUT
    lucky = add(root, "rte", held_out(0.9), options=rate(1e-4, **options), asked=[0, 1])
    winner = add(root, "rte", held_out(0.8, 0.8), options=rate(1e-3, **options))
    add(root, "rte", held_out(*[0.7] * 10), options=rate(3e-3, **options))
    swept(root, lucky, winner, seeds=2, seeds_on="winner")
    shown = only(root)
    assert entry(shown, "adapters 64", "RTE").mean == pytest.approx(0.8)
    assert "compared by their first seed" in shown.protocol
    assert "slightly optimistic" in shown.protocol


def test_of_equals_the_first_of_the_sweep_is_shown(tmp_path: Path) -> None:
    folders = [add(tmp_path, "rte", one_metric(0.7), options=rate(v)) for v in (1e-4, 1e-3, 3e-3)]
    for order in (folders, folders[::-1]):
        (tmp_path / "sweeps").mkdir(exist_ok=True)
        for earlier in (tmp_path / "sweeps").iterdir():
            earlier.unlink()
        swept(tmp_path, *order, seeds=1)
        assert entry(only(tmp_path), "adapters 64", "RTE").run == digest(order[0])


def test_of_two_candidates_the_one_that_never_diverges_is_chosen(tmp_path: Path) -> None:
    risky = held_out(0.8, 0.8, 0.8, 0.8, None)
    add(tmp_path, "rte", risky, options=rate(3e-3, **HELD_OUT))
    add(tmp_path, "rte", held_out(*[0.7] * 5), options=rate(1e-3, **HELD_OUT))
    assert entry(only(tmp_path), "adapters 64", "RTE").mean == pytest.approx(0.7)


def test_selection_never_sees_the_split_that_is_reported_when_part_of_train_is_held_out(
    tmp_path: Path,
) -> None:
    for rate, chosen_by, validation in ((1e-4, 0.8, 0.6), (1e-3, 0.7, 0.9)):
        scores = {"held-out": {"accuracy": chosen_by}, "validation": {"accuracy": validation}}
        add(
            tmp_path,
            "rte",
            {0: scores},
            options={"training.learning_rate": rate, "protocol": "held-out"},
        )
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.settings["training.learning_rate"] == 1e-4
    assert found.mean == 0.6
    assert "held-out" in shown.title
    assert "chose nothing" in shown.protocol
    assert "optimistic" not in shown.protocol


def test_runs_that_start_from_another_run_have_a_row_of_their_own(tmp_path: Path) -> None:
    """Though no task has both kinds, and by whatever path the run was named."""
    add(tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.8, 0.8)))
    facts = results.InitFrom(
        run="mnli/cell/seed-3", task="mnli", seed=3, digest="d" * 64, sha256="c" * 64, head=False
    )
    for rate, path in ((1e-4, "store/cell"), (1e-3, "elsewhere/cell")):
        options = {"init_from": [path, "b"], "training.learning_rate": rate}
        add(tmp_path, "rte", one_metric(0.7), options=options, init_from=facts)
    shown = only(tmp_path)
    assert [row.label for row in shown.rows] == ["adapters 64"]
    assert shown.elsewhere == ["adapters 64, from mnli/cell/seed-3"]
    mrpc = two_metrics("f1", "accuracy", (0.8, 0.8))
    add(tmp_path, "mrpc", mrpc, options={"init_from": ["store/cell"]}, init_from=facts)
    shown = only(tmp_path)
    assert entry(shown, "adapters 64, from mnli/cell/seed-3", "RTE").num_candidates == 2
    (command,) = {
        commands.train_command(cell.config, cell.origins)
        for cell in evidence.read(tmp_path)[0]
        if cell.settings["training.learning_rate"] == 1e-4
    }
    assert "--init-from store/cell --init-from b" in command


def test_what_sets_a_row_apart_is_named_and_what_the_recipe_says_is_not(tmp_path: Path) -> None:
    for std in (1e-2, 1e-1):
        add(tmp_path, "rte", one_metric(0.7), options={"method.init_std": std})
    add(tmp_path, "rte", one_metric(0.7), options={"method.layers": "3-5"})
    add(tmp_path, "rte", one_metric(0.7), options={"training.batch_size": 16})
    assert [row.label for row in only(tmp_path).rows] == [
        "adapters 64",
        "adapters 64, batch size 16",
        "adapters 64, init std 0.1",
        "adapters 64, layers 3,4,5",
    ]


def test_tasks_may_ask_for_different_lengths_within_a_row(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7), options={"training.max_length": 256})
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    assert [row.label for row in only(tmp_path).rows] == ["adapters 64"]


def test_runs_from_before_a_setting_came_are_not_another_variant(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.6))
    old = add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.7}}})
    described = json.loads(old.config.read_text())
    described["config"]["method"] = {
        key: described["config"]["method"][key]
        for key in ("name", "size", "layers", "init_std", "activation")
    }
    old.config.write_text(json.dumps(described))
    (alone,) = only(tmp_path).rows
    assert (alone.label, alone.variant) == ("adapters 64", "")
    assert all(isinstance(one, Entry) for one in alone.entries)


def test_every_method_there_is_has_a_row(tmp_path: Path) -> None:
    assert set(methods.FAMILIES) == {
        one.model_fields["name"].default for one in configuration.METHODS
    }
    for rank in (2, 8):
        add(tmp_path, "rte", one_metric(0.7), options={"method.name": "lora", "method.rank": rank})
    add(tmp_path, "rte", one_metric(0.6), options={"method.name": "ia3"})
    assert [row.label for row in only(tmp_path).rows] == ["LoRA, best of 2/8", "(IA)³"]


def test_two_methods_that_started_from_runs_of_one_task_are_set_beside_each_other(
    tmp_path: Path,
) -> None:
    """Each from its own, for a run is one method's; not where the tasks differ, or one began anew."""

    def of(task: str, run: str) -> results.InitFrom:
        return results.InitFrom(
            run=f"{task}/{run}/seed-0", task=task, seed=0, digest="d", sha256="c", head=False
        )

    for store, adapter, full in (
        ("alike", of("mnli", "a"), of("mnli", "f")),
        ("other", of("mnli", "a"), of("qnli", "f")),
        ("anew", of("mnli", "a"), None),
    ):
        root = tmp_path / store
        own = {"init_from": ["a"]}
        add(root, "rte", one_metric(0.7, 0.7), options=own, init_from=adapter)
        others = {"method.name": "full"} | ({"init_from": ["f"]} if full else {})
        add(root, "rte", one_metric(0.6, 0.6), options=others, init_from=full)
        (group,) = comparison.compare(evidence.read(root)[0])
        assert methods.alike(*group.cells) == (store == "alike")
