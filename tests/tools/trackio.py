"""trackio's calls that we use, as version 0.43 has them: it keeps what it is told in ``RUNS``."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

RUNS: dict[str, Run] = {}
_current: ContextVar[Run | None] = ContextVar("current", default=None)


class Run:
    def __init__(self, name: str, group: str, config: dict[str, Any]) -> None:
        self.name, self.group, self.parameters = name, group, config
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.is_open = True

    @property
    def epochs(self) -> list[tuple[int | None, dict[str, Any]]]:
        return [row for row in self.rows if row[0] is not None]

    @property
    def final(self) -> dict[str, Any]:
        return next((values for step, values in self.rows if step is None), {})

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if not self.is_open:
            raise RuntimeError("the run is finished")
        self.rows.append((step, metrics))

    def finish(self) -> None:
        print("* Run finished. Uploading logs to Trackio (please wait...)")
        self.is_open = False


def init(
    project: str,
    name: str,
    group: str,
    config: dict[str, Any],
    resume: str,
    embed: bool,
    auto_log_gpu: bool,
    auto_log_cpu: bool,
) -> Run:
    print(f"* Trackio project initialized: {project}")
    previous = _current.get()
    if previous is not None:
        previous.finish()
    if resume == "must":
        run = RUNS[name]
        run.is_open = True
    else:
        run = RUNS[name] = Run(name, group, config)
    _current.set(run)
    return run
