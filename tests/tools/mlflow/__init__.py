"""MLflow's calls that we use, as version 3.17 has them: it keeps what it is told in ``RUNS``."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

RUNS: dict[str, Run] = {}
EXPERIMENTS: dict[str, str] = {}


class Run:
    def __init__(self, name: str, group: str) -> None:
        self.name, self.group, self.status = name, group, "RUNNING"
        self.parameters: dict[str, str] = {}
        self.metrics: list[tuple[str, float, int | None]] = []
        self.tags: dict[str, str] = {}

    @property
    def epochs(self) -> list[tuple[int | None, dict[str, Any]]]:
        rows: dict[int, dict[str, Any]] = {}
        for key, value, step in self.metrics:
            if step is not None:
                assert key not in rows.setdefault(step, {}), "twice at one step"
                rows[step][key] = value
        return list(rows.items())

    @property
    def final(self) -> dict[str, Any]:
        return {key: value for key, value, step in self.metrics if step is None} | self.tags


class MlflowClient:
    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        known = EXPERIMENTS.get(name)
        return SimpleNamespace(experiment_id=known) if known else None

    def create_experiment(self, name: str) -> str:
        assert name not in EXPERIMENTS
        EXPERIMENTS[name] = str(len(EXPERIMENTS) + 1)
        return EXPERIMENTS[name]

    def create_run(self, experiment_id: str, tags: dict[str, str], run_name: str) -> Any:
        assert experiment_id in EXPERIMENTS.values()
        made = f"run{len(RUNS)}"
        RUNS[made] = Run(run_name, tags["task"])
        return SimpleNamespace(info=SimpleNamespace(run_id=made))

    def update_run(self, run_id: str, status: str) -> None:
        RUNS[run_id].status = status

    def log_batch(self, run_id: str, params: Sequence[Any]) -> None:
        RUNS[run_id].parameters |= {one.key: one.value for one in params}

    def log_metric(self, run_id: str, key: str, value: float, step: int | None = None) -> None:
        if RUNS[run_id].status != "RUNNING":
            raise RuntimeError("the run is terminated")
        RUNS[run_id].metrics.append((key, value, step))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        RUNS[run_id].tags[key] = value

    def set_terminated(self, run_id: str, status: str) -> None:
        RUNS[run_id].status = status
