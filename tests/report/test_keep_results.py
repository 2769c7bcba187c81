"""What is kept of a store in git: `scripts/keep_results.py`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from adaptertune.report import evidence
from adaptertune.runs.store import write_result
from tests.report.records import add, change, digest, one_metric, swept
from tests.report.test_ablation import point
from tests.report.test_ablation import result as ablation_result

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "keep_results.py"


def keep(store: Path, folder: Path, *more: str) -> None:
    subprocess.run([sys.executable, SCRIPT, store, folder, *more], check=True)


def test_sweeps_and_ablations_go_along(tmp_path: Path) -> None:
    folder = add(tmp_path / "runs", "rte", one_metric(0.7))
    swept(tmp_path / "runs", folder, seeds=1)
    write_result(
        tmp_path / "runs" / "ablations" / "init-0.json", ablation_result(point(1e-2, (0.5,)))
    )
    keep(tmp_path / "runs", tmp_path / "kept")
    (cell,) = evidence.read(tmp_path / "kept")[0]
    assert cell.search == evidence.Search(1, False, 0)
    assert (tmp_path / "kept" / "ablations" / "init-0.json").is_file()


def test_nothing_of_a_search_under_way_goes_along(tmp_path: Path) -> None:
    done, ablated, _ = (
        add(tmp_path / "runs", "rte", one_metric(0.7), options={"training.learning_rate": rate})
        for rate in (1e-4, 3e-4, 1e-3)
    )
    swept(tmp_path / "runs", done, seeds=1)
    of_ablation = ablation_result(point(1e-2, (0.5,))).model_copy(
        update={"cells": [digest(ablated)]}
    )
    write_result(tmp_path / "runs" / "ablations" / "init-0.json", of_ablation)
    keep(tmp_path / "runs", tmp_path / "kept")
    kept = {cell.folder.name for cell in evidence.read(tmp_path / "kept")[0]}
    assert kept == {done.path.name, ablated.path.name}


def test_on_request_cells_of_no_search_go_along_if_they_are_finished(tmp_path: Path) -> None:
    done, _ = (
        add(tmp_path / "runs", "rte", one_metric(0.7), options={"training.learning_rate": rate})
        for rate in (1e-4, 3e-4)
    )
    done.result.write_text("{}")  # which a cell gets when its last seed is done
    keep(tmp_path / "runs", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    keep(tmp_path / "runs", tmp_path / "kept", "--all")
    assert [path.parent.name for path in tmp_path.glob("kept/*/*/config.json")] == [done.path.name]


def test_two_machines_stay_two_and_nobody_learns_which(tmp_path: Path) -> None:
    folder = add(tmp_path / "runs", "rte", one_metric(0.7, 0.7, 0.7))
    for seed, host in enumerate(("office", "cluster-7", "office")):
        change(folder, seed, cost={"host": host})
    swept(tmp_path / "runs", folder, seeds=3)

    def hosts(root: Path) -> list[str]:
        (cell,) = evidence.read(root)[0]
        return [result.cost.host for result in cell.seeds]

    keep(tmp_path / "runs", tmp_path / "kept")
    first, second, third = hosts(tmp_path / "kept")
    assert first == third != second
    assert re.fullmatch(r"machine-[0-9a-f]{6}", first)
    texts = [path.read_text() for path in (tmp_path / "kept").rglob("*.json")]
    assert not any(name in text for text in texts for name in ("office", "cluster-7"))
    # A copy of what was kept is the same.
    keep(tmp_path / "kept", tmp_path / "again")
    assert hosts(tmp_path / "again") == [first, second, third]


def test_a_folder_that_no_cell_names_is_renamed_too(tmp_path: Path) -> None:
    """Of a store of kept results that another sweep went over, which trained nothing."""
    folder = add(tmp_path / "runs", "rte", one_metric(0.7))
    swept(tmp_path / "runs", folder, seeds=1)
    (sweep,) = (tmp_path / "runs" / "sweeps").glob("*.json")
    told = json.loads(sweep.read_text())
    told["choices"] = [{"data": "folder /home/me/glue/RTE", "cell": f"{tmp_path}/runs/rte/one"}]
    sweep.write_text(json.dumps(told))
    keep(tmp_path / "runs", tmp_path / "kept", "--data-dir", "/home/me/glue")
    (choice,) = json.loads((tmp_path / "kept" / "sweeps" / sweep.name).read_text())["choices"]
    assert choice == {"data": "folder path/to/glue/RTE", "cell": f"{tmp_path}/kept/rte/one"}
