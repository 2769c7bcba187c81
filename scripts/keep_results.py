"""Copy what a store's figures come from, small and without this machine's names, to be kept in git.

    python scripts/keep_results.py STORE FOLDER [--all] [--data-dir PATH]

Configurations and results of the cells that a finished sweep or ablation names go along, so nothing of a
search under way does, and with --all those of every finished cell; not models, logits or locks: a result
says that it has no checkpoint, so a sweep over a copy of FOLDER trains nothing of it again. Folders
become what a reader would type: the data ``path/to/glue``, the store what FOLDER is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

SHIPPED = re.compile(r"/\S*/(?=configs/)")  # what lies before a shipped file, wherever that is
KEPT = {"config.json", "result.json", "spans.json", "prune.json", "failure.json", "epochs.jsonl"}


def pseudonym(host: str) -> str:
    """A machine's name that tells it from others and is not its own; the same for the same machine."""
    if not host or re.fullmatch(r"machine-[0-9a-f]{6}", host):  # has one already
        return host
    return f"machine-{hashlib.sha256(host.encode()).hexdigest()[:6]}"


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A JSON value with the beginnings of its texts replaced."""
    if isinstance(value, dict):
        return {
            key: pseudonym(one) if key == "host" else renamed(one, names)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [renamed(one, names) for one in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
        value = SHIPPED.sub("", value)
    return value


def copy(path: Path, target: Path, names: dict[str, str]) -> None:
    """A JSON file, or one of JSON lines, with other names in it."""
    is_lines = path.suffix == ".jsonl"
    texts = path.read_text().splitlines() if is_lines else [path.read_text()]
    target.parent.mkdir(parents=True, exist_ok=True)
    values = [renamed(json.loads(text), names) for text in texts]
    if path.name == "result.json":
        values[0]["checkpoint"] = None
    indent = None if is_lines else 1
    target.write_text("\n".join(json.dumps(value, indent=indent) for value in values) + "\n")


def concluded(store: Path) -> set[str]:
    """The digests of the cells of all finished sweeps and ablations."""
    results = [
        json.loads(path.read_text())
        for folder in ("sweeps", "ablations")
        for path in store.glob(f"{folder}/*.json")
    ]
    return {digest for result in results for digest in result["cells"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="also cells of no sweep or ablation")
    parser.add_argument("--data-dir", help="as it was given to commands that trained nothing")
    arguments = parser.parse_args()
    store, target = arguments.store, arguments.folder
    # The longer name first, which has the shorter in it; then what else it may be named by.
    names: dict[str, str] = {str(store.resolve()): str(target), str(store): str(target)}
    if arguments.data_dir:
        names[arguments.data_dir] = "path/to/glue"
    of_sweeps, finished = concluded(store), []
    for path in sorted(store.glob("*/*/config.json")):
        config = json.loads(path.read_text())
        is_wanted = arguments.all and (path.parent / "result.json").exists()
        if config["digest"] in of_sweeps or is_wanted:
            finished.append(path.parent)
            settings = config["config"]
            names[settings["output"]] = str(target)
            if settings["data"].get("folder"):
                names[settings["data"]["folder"]] = "path/to/glue"
    for cell in finished:
        for path in sorted(cell.rglob("*")):
            if path.name in KEPT:
                copy(path, target / path.relative_to(store), names)
    for folder in ("sweeps", "ablations"):
        for path in sorted(store.glob(f"{folder}/*.json")):
            copy(path, target / path.relative_to(store), names)


if __name__ == "__main__":
    main()
