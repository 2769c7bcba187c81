#!/usr/bin/env bash
# Everything that must hold before a commit: formatter, linter, type checker, tests.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" embedded,dev,ray
export OMP_WAIT_POLICY=passive  # two test processes share the cores; see adaptertune/cli/__init__.py
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/mypy
.venv/bin/python -m pytest -n 2 "$@"
